import type { TaskStatus } from '@commonweight/proto';
import { bar, bytes } from '../output/format.ts';

/** A task in one line, for terminals that cannot redraw. */
export function taskLine(status: TaskStatus): string {
  const { task, state, phase, round, roundsMax, version, accepted, waiting } = status;
  const of = isCountable(status) ? `/${roundsMax}` : '';
  const where = state === 'running' ? `${phase} ${accepted}/${needed(status)}` : state;
  return `${task}: round ${round}${of}, version ${version}, ${where}${waiting === '' ? '' : `, ${waiting}`}`;
}

/** Rounds that made no version have numbers too: there may be more than were asked for. */
const isCountable = ({ round, roundsMax }: TaskStatus): boolean => roundsMax > 0n && round <= roundsMax;

/** Updates that close the open round; a coordinator of the version before does not say. */
const needed = ({ updatesMax, cohort }: TaskStatus): number => updatesMax || cohort;

/** What gates have to do, and did. */
function candidateWords({ candidate, candidatesRefused }: TaskStatus): string {
  const now = candidate === 0n ? 'none' : `${candidate} is evaluated`;
  return `${now}, ${candidatesRefused} refused (\`model candidates\`)`;
}

/** Agents that are there and are not invited, and why. */
function agentsLeftOut({ agentsResting, agentsUnqualified }: TaskStatus): string {
  const rest = agentsResting === 0 ? '' : `, ${agentsResting} took part lately`;
  const lacks = Object.entries(agentsUnqualified);
  if (lacks.length === 0) return rest;
  const sum = lacks.reduce((total, [, count]) => total + count, 0);
  return `${rest}, ${sum} do not qualify (${lacks.map(([lack, count]) => `${lack} ${count}`).join(', ')})`;
}

/** A task as a block of lines that is drawn again and again. */
export function taskBlock(status: TaskStatus): string[] {
  const { accepted, cohort, rejectedByReason, metrics } = status;
  const invited = cohort > needed(status) ? ` of ${cohort} invited` : '';
  const of = isCountable(status) ? ` of ${status.roundsMax}` : '';
  const reasons = Object.entries(rejectedByReason).map(([reason, count]) => `${reason} ${count}`);
  const numbers = Object.entries(metrics).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  return [
    `${status.task}: ${status.strategy || status.kind} on ${status.model}, ${status.state}`,
    `round     ${status.round}${of}, ${status.phase}, ${status.roundsAbandoned} abandoned`,
    `updates   ${bar(accepted, needed(status), 20)} ${accepted}/${needed(status)}${invited}   ${status.updatesAccepted} accepted, ${status.updatesRejected} rejected`,
    ...(reasons.length === 0 ? [] : [`refused   ${reasons.join(', ')}`]),
    `version   ${status.version}`,
    ...(status.candidate === 0n && status.candidatesRefused === 0n ? [] : [`candidate ${candidateWords(status)}`]),
    `agents    ${status.agentsOnline} online${agentsLeftOut(status)}`,
    `wire      ${bytes(status.bytesUp)} up, ${bytes(status.bytesDown)} down`,
    ...(numbers.length === 0 ? [] : [`metrics   ${numbers.join(', ')}`]),
    ...(status.waiting === '' ? [] : [`waits     ${status.waiting}`]),
  ];
}

/** A task for machines. */
export function taskRecord({ $typeName: _, $unknown: __, configJson, ...status }: TaskStatus): Record<string, unknown> {
  return { ...status, config: JSON.parse(configJson || '{}') as unknown };
}
