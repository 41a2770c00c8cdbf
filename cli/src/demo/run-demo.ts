import { sleep, TransportError } from '@commonweight/client-sdk';
import { writeModel } from '@commonweight/core';
import type { AgentEvent } from '@commonweight/edge-agent';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AdminClient } from '../admin/admin-client.ts';
import { sourceOf } from '../admin/file-source.ts';
import { freePort } from '../nats/free-port.ts';
import { NATS_MEND, provideNats } from '../nats/provide.ts';
import { CommandError } from '../output/failure.ts';
import { Child } from './child.ts';
import { agentEvents, statusEvent, type DemoEvent } from './events.ts';
import { agentData, demoModel, demoTask, linkOf, MODEL, TASK, testData, type DemoOptions } from './plan.ts';
import { isDone, nothingYet, progressed, type Progress } from './progress.ts';

const RESTARTS_MAX = 5;
const READY_MS = 120_000;

/** Runs the whole system once: a coordinator, agents over both links and an app, each a process of its own. */
export async function runDemo(
  options: DemoOptions,
  signal: AbortSignal,
  onEvent: (event: DemoEvent) => void,
): Promise<Progress> {
  const closers: (() => Promise<unknown> | void)[] = [];
  try {
    return await run(options, signal, onEvent, closers);
  } finally {
    for (const close of closers.toReversed()) await close();
  }
}

async function run(
  options: DemoOptions,
  signal: AbortSignal,
  onEvent: (event: DemoEvent) => void,
  closers: (() => Promise<unknown> | void)[],
): Promise<Progress> {
  let progress = nothingYet;
  const tell = (event: DemoEvent): void => {
    progress = progressed(progress, event);
    onEvent(event);
  };
  const note = (text: string): void => tell({ event: 'note', text });
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-demo-'));
  closers.push(() => rm(folder, { recursive: true, force: true }));

  const nats = await provideNats(note);
  if (nats === undefined) note(`no NATS server here, so all agents use gRPC (${NATS_MEND})`);
  else closers.push(nats.close);

  const failures: Promise<never>[] = [aborts(signal)];
  const begin = (spec: Omit<ConstructorParameters<typeof Child>[0], 'restartsMax' | 'onRestart'>): Child => {
    const onRestart = (why: string, restarts: number): void =>
      tell({ event: 'restart', program: spec.name, why, restarts });
    const child = new Child({ ...spec, restartsMax: RESTARTS_MAX, onRestart });
    failures.push(child.failed);
    return child;
  };

  const [grpcPort, httpPort] = [await freePort(), await freePort()];
  const listening = Promise.withResolvers<void>();
  const coordinator = begin({
    name: 'the coordinator',
    module: '../main',
    args: coordinatorArgs(join(folder, 'coordinator'), grpcPort, httpPort, nats?.url),
    onMessage: () => listening.resolve(),
  });
  closers.push(() => coordinator.end());
  const orFailure = <T>(work: Promise<T>): Promise<T> => Promise.race([work, ...failures]);
  await orFailure(listening.promise);

  const url = `grpc://127.0.0.1:${grpcPort}`;
  const links = Array.from({ length: options.agents }, (_, index) => linkOf(index, nats !== undefined));
  const viaNats = links.filter((link) => link === 'nats').length;
  tell({
    event: 'started',
    coordinator: url,
    http: `http://127.0.0.1:${httpPort}`,
    nats: nats?.url ?? null,
    agents: { grpc: links.length - viaNats, nats: viaNats },
    rounds: options.rounds,
    seed: options.seed,
    data: options.data ?? 'mnist',
  });

  const admin = new AdminClient(url);
  closers.push(() => admin.close());
  const { inputs, outputs } = await sizesOf(options);
  await orFailure(admin.importModel(MODEL, sourceOf(writeModel(demoModel(inputs, outputs, options.seed)))));
  await orFailure(admin.createTask(TASK, demoTask(options)));

  const app = begin({
    name: 'the app',
    module: './app',
    args: [url, MODEL, testData(options)],
    onMessage: (message) => tell(message as DemoEvent),
  });
  const agents = links.map((link, index) => {
    const agent = `agent-${index}`;
    const at = link === 'nats' ? (nats?.url ?? url) : url;
    return begin({
      name: agent,
      module: '../main',
      args: [
        'agent',
        '--coordinator',
        at,
        '--data',
        agentData(options, index),
        '--id',
        agent,
        '--dir',
        join(folder, agent),
        // Ten of them share the machine.
        ...['--threads', '1', '--engine', 'ort-cpu'],
      ],
      onMessage: (message) => agentEvents(agent, link, message as AgentEvent).forEach(tell),
    });
  });
  closers.push(() => Promise.all(agents.map((agent) => agent.end())));
  closers.push(() => app.end());

  await orFailure(
    until(
      'the app and all agents are there',
      signal,
      async () => progress.serving !== undefined && (await online(admin)) >= options.agents,
    ),
  );
  await orFailure(admin.startTask(TASK));
  await orFailure(follow(admin, signal, tell, () => isDone(progress)));
  // Its last report comes with its end.
  await app.end();
  return progress;
}

function coordinatorArgs(data: string, grpcPort: number, httpPort: number, nats: string | undefined): string[] {
  const addresses = ['--grpc', `127.0.0.1:${grpcPort}`, '--http', `127.0.0.1:${httpPort}`];
  return ['coordinator', '--data', data, ...addresses, ...(nats === undefined ? [] : ['--nats', nats])];
}

/** Values of an image and number of classes. */
async function sizesOf(options: DemoOptions): Promise<{ inputs: number; outputs: number }> {
  if (options.data === undefined) return { inputs: 784, outputs: 10 };
  const { classCount, loadDataset, valuesOfExample } = await import('@commonweight/edge-agent');
  const data = await loadDataset(testData(options));
  return { inputs: valuesOfExample(data), outputs: classCount(data)! };
}

const online = async (admin: AdminClient): Promise<number> =>
  (await admin.listAgents()).filter((agent) => agent.online).length;

/** Follows the task, across restarts of the coordinator, until the demo is done. */
async function follow(
  admin: AdminClient,
  signal: AbortSignal,
  tell: (event: DemoEvent) => void,
  isOver: () => boolean,
): Promise<void> {
  let version = 1;
  const watch = async (): Promise<void> => {
    const over = new AbortController();
    const stop = setInterval(() => isOver() && over.abort(), 50);
    try {
      for await (const status of admin.watchTask(TASK, AbortSignal.any([signal, over.signal]))) {
        const event = statusEvent(status);
        if (event.version > version) {
          version = event.version;
          const round = event.state === 'finished' ? event.round : version - 1;
          tell({ event: 'published', round, version, accepted: event.updatesAccepted });
        }
        tell(event);
      }
    } finally {
      clearInterval(stop);
    }
  };
  while (!isOver() && !signal.aborted) {
    await watch().catch((error: unknown) => {
      if (!(error instanceof TransportError)) throw error;
    });
    await sleep(100, signal);
  }
}

/** Asks again until it is so; a coordinator that is away for a moment is no failure. */
async function until(what: string, signal: AbortSignal, isSo: () => Promise<boolean>): Promise<void> {
  const endMs = Date.now() + READY_MS;
  while (!signal.aborted) {
    const answer = await isSo().catch((error: unknown) => {
      if (error instanceof TransportError && error.passing) return false;
      throw error;
    });
    if (answer) return;
    if (Date.now() > endMs)
      throw new CommandError(`waited ${READY_MS / 1000} s until ${what}; COMMONWEIGHT_DEBUG=1 shows what each says`);
    await sleep(100, signal);
  }
}

/** Rejects once the signal aborts. */
function aborts(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void => reject(new CommandError('stopped before the end'));
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  promise.catch(() => {});
  return promise;
}
