import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import { fedAvg2nn, logistic, writeModel } from '@commonweight/core';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import {
  ChannelSchema,
  ClientReportSchema,
  ManifestSchema,
  VariantListSchema,
  equalBytes,
  type Artifact,
  type SignedChannel,
  type SignedManifest,
} from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, until, type Program } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';
import { connect } from '@commonweight/client-sdk';
import { GUARD } from '../../coordinator/src/channels/guard.ts';
import { sha256 } from '../../client-sdk/src/trust/sha256.ts';
import { openModelLink, type ModelLink } from '../../client-sdk/src/connection/model-link.ts';

let nats: Program;
let natsPort = 0;
let grpcPort = 0;
let httpPort = 0;
let dataDir = '';
let coordinator: RunningCoordinator;

const start = (): Promise<RunningCoordinator> =>
  startCoordinator({
    dataDir,
    grpc: `127.0.0.1:${grpcPort}`,
    http: `127.0.0.1:${httpPort}`,
    nats: `nats://127.0.0.1:${natsPort}`,
  });

beforeAll(async () => {
  [natsPort, grpcPort, httpPort] = [await freePort(), await freePort(), await freePort()];
  dataDir = await mkdtemp(join(tmpdir(), 'cw-link-'));
  nats = natsServer(natsPort);
  await listening(natsPort, nats);
  coordinator = await start();
  // 800 kB of weights: more than one chunk.
  await coordinator.service.importModel('digits', writeModel(fedAvg2nn(1)));
});

afterAll(async () => {
  await coordinator.close();
  await nats.end('SIGTERM');
});

const manifestOf = ({ manifest }: SignedManifest) => fromBinary(ManifestSchema, manifest);
const recordOf = ({ record }: SignedChannel) => fromBinary(ChannelSchema, record);
const everybody = { cohorts: [], stages: [], everyMs: 0, guard: GUARD, needsReports: false };
const versionOf = (release: SignedManifest): number => Number(manifestOf(release).version);

describe.each([
  ['grpc', () => `grpc://127.0.0.1:${grpcPort}`],
  ['nats', () => `nats://127.0.0.1:${natsPort}`],
  ['http', () => `http://127.0.0.1:${httpPort}`],
])('a model link over %s', (kind, url) => {
  const links: ModelLink[] = [];
  const open = (): ModelLink => {
    const link = openModelLink(url());
    links.push(link);
    return link;
  };
  afterEach(async () => void (await Promise.all(links.splice(0).map((link) => link.close()))));

  test('gets the newest release and a named one', async () => {
    const link = open();
    expect(versionOf(await link.getModel('digits', 1))).toBe(1);
    expect(versionOf(await link.getModel('digits', 0))).toBeGreaterThan(0);
  });

  test('says that a model is not there', async () => {
    await expect(open().getModel('nothing', 0)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('downloads blobs of more than one chunk', async () => {
    const link = open();
    const { artifacts } = manifestOf(await link.getModel('digits', 0));
    for (const { digest, size } of artifacts) {
      expect(equalBytes(sha256(await link.download(digest, Number(size))), digest)).toBe(true);
    }
    expect(artifacts.map(({ size }) => Number(size))).toContain(199_210 * 4);
  });

  test('says that a blob is not there, or is of another size', async () => {
    const link = open();
    const [artifact] = manifestOf(await link.getModel('digits', 0)).artifacts as [Artifact, ...Artifact[]];
    await expect(link.download(new Uint8Array(32), 10)).rejects.toMatchObject({ code: 'not-found' });
    await expect(link.download(artifact.digest, Number(artifact.size) + 1)).rejects.toMatchObject({ code: 'invalid' });
  });

  test('gets the forms of a version, and says where there are none', async () => {
    const model = `forms-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    const link = open();
    expect(await link.getVariants?.(model, 1)).toBeUndefined();
    await coordinator.service.makeVariants(model, 1, { forms: ['int8-dynamic'], accuracyDropPointsMax: 0.5 });
    const signed = await link.getVariants?.(model, 0);
    expect(fromBinary(VariantListSchema, signed!.list)).toMatchObject({
      model,
      version: 1n,
      variants: [{ name: 'int8-dynamic' }],
    });
    await expect(link.getVariants?.('nothing', 0)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('gets what a channel says, and says where there is none', async () => {
    const model = `channel-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    const link = open();
    await expect(link.getChannel?.(model, 'stable')).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining(`model ${model} has no channel "stable"`) as string,
    });
    await coordinator.service.promoteVersion({ model, channel: 'stable' }, { version: 1, ...everybody });
    expect(recordOf((await link.getChannel?.(model, 'stable'))!)).toMatchObject({
      model,
      channel: 'stable',
      version: 1n,
    });
  });

  test('tells what a channel says at once, and each change of it, and of no other channel', async () => {
    const model = `changing-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    await publishNext(coordinator.service, model);
    const of = { model, channel: 'stable' };
    await coordinator.service.promoteVersion(of, { version: 1, ...everybody });
    await coordinator.service.promoteVersion({ model, channel: 'beta' }, { version: 2, ...everybody });
    const heard: bigint[] = [];
    const unwatch = open().watchChannel!(model, 'stable', (record) => heard.push(recordOf(record).revision));
    await until('the first record', 20_000, () => heard.includes(1n));
    await coordinator.service.promoteVersion({ model, channel: 'beta' }, { version: 1, ...everybody });
    await coordinator.service.promoteVersion(of, { version: 2, percent: 10, ...everybody });
    await until('the next record', 20_000, () => heard.includes(2n));
    // Over HTTP hints may be passed over, and never the newest state.
    for (const percent of [20, 30, 40])
      await coordinator.service.promoteVersion(of, { version: 2, percent, ...everybody });
    await until('the newest record', 20_000, () => heard.includes(5n));
    unwatch();
    await coordinator.service.rollbackChannel(of, undefined);
    expect(heard).not.toContain(6n);
    expect(heard).toEqual(heard.toSorted((a, b) => Number(a - b)));
  });

  test('says how versions do, and hears when to say so again', async () => {
    const model = `reported-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    const who = { client: new Uint8Array(16).fill(7), id: new Uint8Array(8) };
    const report = create(ClientReportSchema, { model, channel: 'latest', ...who, version: 1n, variant: 'fp32' });
    const link = open();
    expect((await link.report?.([report]))?.nextAfterMs).toBe(1_000);
    expect(await coordinator.service.getFleets(model)).toMatchObject([
      { clients: 1, versions: [{ variants: { fp32: 1 } }] },
    ]);
    const wrong = create(ClientReportSchema, { ...report, version: 99n });
    await expect(link.report?.([wrong])).rejects.toMatchObject({ code: 'invalid' });
  });

  test('tells of the newest release at once and of each newer one', async () => {
    const model = `watched-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    const heard: number[] = [];
    const unwatch = open().watchModel(model, (release) => heard.push(versionOf(release)));
    await until('the first release', 5000, () => heard.includes(1));
    await publishNext(coordinator.service, model);
    await until('the next release', 5000, () => heard.includes(2));
    unwatch();
    await publishNext(coordinator.service, model);
    expect(heard).not.toContain(3);
  });

  test('connects once the coordinator is there, and reads the state again after a break', async () => {
    await coordinator.close();
    if (kind === 'nats') await nats.end('SIGKILL');
    const link = open();
    const heard: number[] = [];
    let downs = 0;
    const startAll = async (): Promise<void> => {
      if (kind === 'nats') {
        nats = natsServer(natsPort);
        await listening(natsPort, nats);
      }
      coordinator = await start();
    };
    link.watchModel(
      'digits',
      (release) => heard.push(versionOf(release)),
      () => (downs += 1),
    );
    await until('the link to be down', 5000, () => downs > 0);
    await startAll();
    await until('the first release', 20_000, () => heard.length === 1);
    [downs, heard.length] = [0, 0];
    await coordinator.close();
    if (kind === 'nats') await nats.end('SIGKILL');
    await until('the link to be down', 10_000, () => downs > 0);
    await startAll();
    await until('the release again', 30_000, () => heard.length > 0);
  });

  test('serves an app: predictions from one version to the next', async () => {
    const model = `served-${kind}`;
    await coordinator.service.importModel(model, writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    const client = await connect(url());
    try {
      const live = await client.model(model);
      const input = new Float32Array(8);
      expect((await live.predict({ input })).outputs['logits']?.dims).toEqual([2, 3]);
      expect(live.version).toBe(1);
      await publishNext(coordinator.service, model);
      await until('version 2', 10_000, () => live.version === 2);
      expect((await live.predict({ input })).version).toBe(2);
      await expect(client.model('nothing')).rejects.toThrow(/no model 'nothing'/);
    } finally {
      await client.close();
    }
  });
});
