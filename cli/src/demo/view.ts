import { bar, bytes, clock, percent, sparkline } from '../output/format.ts';
import type { DemoEvent, Summary } from './events.ts';
import type { Progress } from './progress.ts';

/** The demo as a block of lines that is drawn again and again. */
export function viewOf(progress: Progress, elapsedMs: number): string[] {
  const { started, status, accuracies, serving, variant, predictions, failedPredictions, notes } = progress;
  const values = accuracies.map(({ accuracy }) => accuracy);
  const last = accuracies.at(-1);
  const reasons = Object.entries(status?.rejectedByReason ?? {}).map(([reason, count]) => `${reason} ${count}`);
  const refused = reasons.length === 0 ? '' : ` (${reasons.join(', ')})`;
  return [
    `Commonweight demo   ${clock(elapsedMs)}`,
    ...(started === undefined
      ? ['  starting']
      : [`  ${started.coordinator}   status page ${started.http}`, `  ${agentsLine(started.agents)}`]),
    ...(status === undefined
      ? []
      : [
          `  round     ${status.round} of ${started?.rounds ?? '?'}   ${status.phase}`,
          `  updates   ${bar(status.accepted, status.cohort, 20)} ${status.accepted} of ${status.cohort}   ${status.updatesAccepted} accepted, ${status.updatesRejected} rejected${refused}`,
          `  accuracy  ${sparkline(values, 0, 1)} ${last === undefined ? '' : `${percent(last.accuracy)} with version ${last.version}`}`,
          `  app       serves version ${serving ?? '-'} of ${status.version}   ${predictions} predictions, ${failedPredictions} failed`,
          ...(variant === undefined ? [] : [`  form      ${variant.name}: ${variant.why}`]),
          `  wire      ${bytes(status.bytesUp)} up, ${bytes(status.bytesDown)} down`,
          `  waits     ${status.waiting}`,
        ]),
    ...notes.map((note) => `  ${note}`),
  ];
}

/** An event in one plain line, for terminals that cannot redraw; undefined where it is not worth one. */
export function lineOf(event: DemoEvent): string | undefined {
  switch (event.event) {
    case 'started':
      return `coordinator ${event.coordinator}, status page ${event.http}, NATS ${event.nats ?? 'none'}; ${agentsLine(event.agents)}`;
    case 'note':
      return event.text;
    case 'published':
      return `round ${event.round} published version ${event.version}`;
    case 'accuracy':
      return `version ${event.version} gets ${percent(event.accuracy)} of the held-out images right`;
    case 'superseded':
      return `version ${event.version} was superseded before the app could serve it`;
    case 'restart':
      return `${event.program} ended (${event.why}) and was started again`;
    case 'version':
      return `the app serves version ${event.version} as ${event.variant}: ${event.why}`;
    case 'agent':
    case 'status':
    case 'predictions':
      return undefined;
  }
}

/** What came out, and what to type next. */
export function closingLines(summary: Summary): string[] {
  return [
    '',
    `${summary.rounds} rounds in ${summary.seconds} s: ${percent(summary.accuracy)} on held-out images with version ${summary.versions}`,
    `  ${summary.updatesAccepted} updates accepted, ${summary.updatesRejected} rejected; ${bytes(summary.bytesUp)} up, ${bytes(summary.bytesDown)} down; ${summary.trainMs} ms of training an update`,
    `  the app swapped ${summary.swaps} times (${summary.superseded} superseded), serves ${summary.variant}, and failed ${summary.failedPredictions} predictions`,
    '',
    'Next, each in a terminal of its own:',
    '  npm run commonweight -- coordinator',
    '  npm run commonweight -- model create 2nn digits',
    '  npm run commonweight -- task create train --model digits --rounds 20 --cohort-min 2 --start',
    '  npm run commonweight -- agent --id a0 --data "mnist?partition=0/2"      (and a1 with 1/2)',
    '  npm run commonweight -- task watch train',
    '  npm run commonweight -- predict digits --data "mnist?split=test"',
  ];
}

const agentsLine = ({ grpc, nats }: { grpc: number; nats: number }): string =>
  `${grpc + nats} agents: ${grpc} over gRPC, ${nats} over NATS`;
