import { verifyEd25519 } from '@commonweight/client-sdk';
import { CandidateState, openCandidate, type Candidate } from '@commonweight/proto';
import type { Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { name, talking } from '../output/arguments.ts';
import { CommandError } from '../output/failure.ts';
import { table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  coordinator: string;
  json?: boolean;
}

export function addModelCandidates(model: Command): void {
  talking(model.command('candidates'), 'grpc')
    .description('what rounds made and gates decided on: published, refused and why, or pending')
    .argument('<name>', 'a model', name)
    .action(listCandidates);
}

/** A candidate, and whether its weights are at the coordinator. */
export interface Listed {
  candidate: Candidate;
  kept: boolean;
}

/** The newest candidates of a model, once their signatures were verified. */
export async function candidatesOf(model: string, coordinator: string): Promise<Listed[]> {
  const all = await withAdmin(coordinator, (admin) => admin.listCandidates(model));
  return all.flatMap(({ candidate, kept }) =>
    candidate === undefined ? [] : [{ candidate: openCandidate(candidate, candidate.publicKey, verifyEd25519), kept }],
  );
}

/** One of them, whose weights are there. */
export async function candidateOf(model: string, number: number, coordinator: string): Promise<Candidate> {
  const listed = (await candidatesOf(model, coordinator)).find(({ candidate }) => Number(candidate.number) === number);
  if (listed === undefined)
    throw new CommandError(`${model} has no candidate ${number}; see \`commonweight model candidates ${model}\``);
  const { candidate, kept } = listed;
  if (candidate.state === CandidateState.PUBLISHED)
    throw new CommandError(`candidate ${number} of ${model} is version ${candidate.version}; export that`);
  if (!kept)
    throw new CommandError(`the weights of candidate ${number} of ${model} were let go: the newest few are kept`);
  return candidate;
}

async function listCandidates(model: string, options: Options): Promise<void> {
  const listed = await candidatesOf(model, options.coordinator);
  const output = standardOutput(options);
  if (output.json) return listed.forEach((one) => output.say('', recordOf(one)));
  if (listed.length === 0) {
    return output.say(
      `no candidates of ${model}: only tasks with gates have some (\`commonweight task create --help\`)`,
      {},
    );
  }
  const rows = listed.map(({ candidate, kept }) => [
    String(candidate.number),
    candidate.task,
    String(candidate.round),
    String(candidate.baseVersion),
    stateOf(candidate),
    metricsOf(candidate),
    candidate.why,
    kept ? 'kept' : '',
  ]);
  output.say(table(['candidate', 'task', 'round', 'from', 'state', 'before -> after', 'why', ''], rows), {});
}

const STATES: Record<CandidateState, string> = {
  [CandidateState.UNSPECIFIED]: 'unknown',
  [CandidateState.PENDING]: 'pending',
  [CandidateState.PUBLISHED]: 'published',
  [CandidateState.REFUSED]: 'refused',
  [CandidateState.DROPPED]: 'dropped',
};

const stateOf = ({ state, version }: Candidate): string =>
  state === CandidateState.PUBLISHED ? `version ${version}` : (STATES[state] ?? 'unknown');

/** Metrics of the version before and of the candidate. */
const metricsOf = ({ baseEvaluation, evaluation }: Candidate): string =>
  Object.entries(evaluation?.metrics ?? {})
    .map(([metric, value]) => `${metric} ${shown(baseEvaluation?.metrics[metric])} -> ${shown(value)}`)
    .join(', ');

const shown = (value: number | undefined): string => (value === undefined ? '-' : String(Number(value.toPrecision(4))));

function recordOf({ candidate, kept }: Listed): object {
  const { $typeName: _, $unknown: __, artifacts, baseEvaluation, evaluation, state, ...rest } = candidate;
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  return {
    ...rest,
    baseDigest: hex(rest.baseDigest),
    contributionsDigest: hex(rest.contributionsDigest),
    state: STATES[state],
    baseMetrics: baseEvaluation?.metrics,
    evaluatedMetrics: evaluation?.metrics,
    reports: evaluation?.reports,
    examples: evaluation?.examples,
    kept,
    artifacts: artifacts.map(({ role, digest, size }) => ({ role, digest: hex(digest), size })),
  };
}
