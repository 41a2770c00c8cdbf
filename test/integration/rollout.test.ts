// A rollout as it goes with real apps over every link: what they report takes a bad version back, and leaves a good one alone.
import { join } from 'node:path';
import type { Client, Engine, Model, ModelOptions, Prediction, Session, Tensor } from '@commonweight/client-sdk';
import { connect, OrtEngine } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, writeModel } from '@commonweight/core';
import type { ChannelStatus, FleetStatus } from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { connectOn } from '../../client-sdk/src/client.ts';
import { GUARD } from '../../coordinator/src/channels/guard.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';
import { withEngine } from '../support/with-engine.ts';

let nats: Program;
let natsPort = 0;
let coordinator: RunningCoordinator;
const ort = new OrtEngine();
const clients: Client[] = [];
let calling = true;

beforeAll(async () => {
  natsPort = await freePort();
  nats = natsServer(natsPort);
  await listening(natsPort, nats);
  coordinator = await startCoordinator({
    dataDir: join(temporaryFolder('rollout'), 'data'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
    nats: `nats://127.0.0.1:${natsPort}`,
  });
});
afterAll(async () => {
  await coordinator.close();
  await nats.end('SIGTERM');
  await ort.close();
});
afterEach(async () => {
  calling = false;
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

const input = (): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]) });
const CLIENTS = 12;

/** One runtime for all apps of this process, whose sessions a test may change. */
const shared = (odd: (session: Session) => Session = (session) => session): Engine => ({
  name: 'ort-cpu',
  runtime: () => ort.runtime(),
  load: async (onnx) => odd(await ort.load(onnx)),
  close: () => Promise.resolve(),
});

/** Apps that never stop asking. */
async function apps(
  url: string,
  name: string,
  options: ModelOptions,
  engine: () => Engine,
  onAnswer: (model: Model, answer: Prediction) => Promise<void> = () => Promise.resolve(),
): Promise<Model[]> {
  calling = true;
  return Promise.all(
    Array.from({ length: CLIENTS }, async (_, i) => {
      const platform = withEngine(engine);
      const connecting = { clientId: `app ${i}`, reports: { everyMs: 300 }, readyTimeoutMs: 30_000 };
      const client = await connectOn(platform, url, connecting);
      clients.push(client);
      const model = await client.model(name, { channel: 'stable', ...options });
      const call = async (): Promise<void> => {
        while (calling) {
          // One that fails is what is reported.
          const answer = await model.predict(input()).catch(() => undefined);
          if (answer !== undefined && answer.id !== '') await onAnswer(model, answer);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      };
      void call();
      return model;
    }),
  );
}

const guard = { ...GUARD, clientsMin: 3, predictionsMin: 20 };
const everybody = { cohorts: [], stages: [], everyMs: 0, guard, needsReports: false };

async function twoVersions(name: string): Promise<void> {
  const { service } = coordinator;
  await service.importModel(name, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  await publishNext(service, name, 0.5);
  await service.promoteVersion({ model: name, channel: 'stable' }, { version: 1, ...everybody });
}

const status = async (name: string): Promise<ChannelStatus> => (await coordinator.service.listChannels(name))[0]!;
const fleet = async (name: string): Promise<FleetStatus> => (await coordinator.service.getFleets(name))[0]!;

describe.each([
  ['grpc', () => `grpc://127.0.0.1:${coordinator.grpcPort}`],
  ['nats', () => `nats://127.0.0.1:${natsPort}`],
  ['http', () => `http://127.0.0.1:${coordinator.httpPort}`],
])('over %s', (kind, url) => {
  test('a version that apps refuse is taken back from all of them, and why is told', async () => {
    const name = `refused-${kind}`;
    await twoVersions(name);
    // The second version answers otherwise by more than the apps allow.
    let wanted: number[] = [];
    const golden = {
      inputs: input(),
      refuse: (outputs: Record<string, Tensor>): string | undefined => {
        const said = Array.from(outputs['logits']!.data as Float32Array);
        if (wanted.length === 0) wanted = said;
        return said.every((value, i) => Math.abs(value - wanted[i]!) < 0.01) ? undefined : 'it is off';
      },
    };
    const models = await apps(url(), name, { golden }, () => shared());
    await coordinator.service.promoteVersion(
      { model: name, channel: 'stable' },
      { version: 2, percent: 60, ...everybody },
    );
    await until('the end of the rollout', 60_000, async () => (await status(name)).rollout === undefined);
    const { version, changes } = await status(name);
    expect(version).toBe(1n);
    expect(changes.at(-1)?.what).toMatch(/^version 2 taken back: \d+\.\d % of its clients took it back or refused it/);
    expect(models.map((model) => model.version)).toEqual(models.map(() => 1));
    const said = (await fleet(name)).versions.find((each) => each.version === 2n);
    expect(said).toMatchObject({ clients: 0, faults: { golden: said?.refused } });
    expect(Number(said?.refused)).toBeGreaterThanOrEqual(3);
  });

  test('a version that is as good goes from stage to stage once reports say so', async () => {
    const name = `good-${kind}`;
    await twoVersions(name);
    const models = await apps(url(), name, { probation: { probationMs: 500 } }, () => shared());
    await coordinator.service.promoteVersion(
      { model: name, channel: 'stable' },
      { version: 2, ...everybody, stages: [50, 100], everyMs: 2000, needsReports: true },
    );
    await until(
      'its end',
      60_000,
      async () => (await status(name)).version === 2n,
      () => JSON.stringify(models.map((m) => m.version)),
    );
    await until('all apps', 30_000, () => models.every((model) => model.version === 2));
    await until('all reports', 30_000, async () => {
      const { versions } = await fleet(name);
      return versions[0]?.version === 2n && versions[0].clients === CLIENTS;
    });
    const { versions } = await fleet(name);
    expect(versions[0]).toMatchObject({ variants: { fp32: CLIENTS }, errors: 0n, failing: 0 });
    expect(versions[0]!.latencyP95Ms).toBeGreaterThan(0);
    expect(Object.keys(versions[0]!.runtimes)[0]).toMatch(/^onnxruntime-node /);
  });
});

test('a version whose predictions fail here and there is taken back once it is seen to be worse', async () => {
  const name = 'failing';
  await twoVersions(name);
  // Sessions of the second version fail in one call of three. Without probation no app takes it back by itself.
  const graphs = new Map<string, number>();
  const odd = (): Engine => ({
    ...shared(),
    load: async (onnx) => {
      const key = Buffer.from(onnx).toString('base64');
      if (!graphs.has(key)) graphs.set(key, graphs.size);
      const session = await ort.load(onnx);
      let runs = 0;
      return {
        run: (feeds) =>
          graphs.get(key)! > 0 && (runs += 1) % 3 === 0 ? Promise.reject(new Error('out of luck')) : session.run(feeds),
        release: () => session.release(),
      };
    },
  });
  await apps(`grpc://127.0.0.1:${coordinator.grpcPort}`, name, { probation: { probationMs: 0 } }, odd);
  await coordinator.service.promoteVersion(
    { model: name, channel: 'stable' },
    { version: 2, percent: 50, ...everybody },
  );
  await until('the end of the rollout', 60_000, async () => (await status(name)).rollout === undefined);
  expect((await status(name)).changes.at(-1)?.what).toMatch(
    /^version 2 taken back: \d+\.\d % of its predictions fail, of the version before 0\.0 %$/,
  );
});

test('a version that is right less often, as people say afterwards, is taken back', async () => {
  const name = 'wrong';
  await twoVersions(name);
  const say = async (model: Model, { id, version, outputs }: Prediction): Promise<void> => {
    const said = Array.from(outputs['logits']!.data as Float32Array);
    const guess = said.indexOf(Math.max(...said));
    // Of the second version every third answer is wrong.
    const isWrong = version === 2 && Math.random() < 1 / 3;
    await model.feedback(id, { label: isWrong ? (guess + 1) % 3 : guess });
  };
  const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
  await apps(url, name, { feedback: true, probation: { probationMs: 300 } }, () => shared(), say);
  await coordinator.service.promoteVersion(
    { model: name, channel: 'stable' },
    { version: 2, percent: 50, ...everybody },
  );
  await until('the end of the rollout', 60_000, async () => (await status(name)).rollout === undefined);
  expect((await status(name)).changes.at(-1)?.what).toMatch(
    /^version 2 taken back: \d+\.\d % of its answers are right by feedback, of the version before 100\.0 %$/,
  );
});

test('what a version does beside the one that serves is told, and taking it then costs no bytes', async () => {
  const name = 'beside';
  await twoVersions(name);
  const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
  const cacheDir = temporaryFolder('beside');
  const client = await connect(url, { cacheDir, reports: { everyMs: 300 } });
  clients.push(client);
  const model = await client.model(name, { channel: 'stable', shadow: { channel: 'latest' } });
  await until('the shadow', 30_000, () => model.shadowVersion === 2);
  await until('its report', 60_000, async () => {
    await model.predict(input());
    return ((await fleet(name))?.shadows[0]?.rows ?? 0n) > 5n;
  });
  const [shadow] = (await fleet(name)).shadows;
  expect(shadow).toMatchObject({ version: 2n, champion: 1n, errors: 0n });
  expect(shadow!.differenceMax).toBeGreaterThan(0);
  const progress: number[] = [];
  model.on('progress', ({ bytesTotal }) => progress.push(bytesTotal));
  await coordinator.service.promoteVersion({ model: name, channel: 'stable' }, { version: 2, ...everybody });
  await until('version 2', 30_000, () => model.version === 2);
  expect(progress).toEqual([]);
});

test('an app that does not want to tells nobody', async () => {
  const name = 'silent';
  await twoVersions(name);
  const platform = withEngine(() => shared());
  const client = await connectOn(platform, `grpc://127.0.0.1:${coordinator.grpcPort}`, { reports: false });
  const taken = coordinator.service.reportCounts.taken;
  const model = await client.model(name);
  await model.predict(input());
  await client.close();
  expect(coordinator.service.reportCounts.taken).toBe(taken);
});
