import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { formatOf, type UpdateFormat } from '@commonweight/core';
import { UpdateHeaderSchema } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { config, invited, sha256, startTraining, TestAgent, TOP_K, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { openSigner } from '../identity/signer.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { auditVersion, type Audit } from './audit.ts';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A folder in which a task has published versions from updates of these agents. */
async function trained(
  changes: object,
  { rounds = 1, ids = ['a', 'b', 'c'], format }: { rounds?: number; ids?: string[]; format?: UpdateFormat } = {},
): Promise<string> {
  const folder = join(temporaryFolder('audit'), 'data');
  const service = await openCoordinator({ dataDir: folder });
  closing.push(() => service.close());
  await startTraining(service, { cohort: { min: ids.length, max: ids.length }, rounds, ...changes });
  const agents = ids.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  for (let round = 1; round <= rounds; round++) {
    const grid = await invited(agents, round);
    for (const [i, agent] of agents.entries()) {
      const header = { round: BigInt(round), baseVersion: BigInt(round), weight: BigInt(i + 1) };
      const update = updateOf(agent.id, grid, { ...header, metrics: { loss: 1 / (i + round) } }, format);
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
    await expect.poll(async () => (await service.getTask('train')).version).toBe(BigInt(round + 1));
  }
  await service.close();
  return folder;
}

async function audited(folder: string, version = 0): Promise<Audit> {
  const store = SqliteStore.open(folder);
  try {
    return await auditVersion(store, openSigner(folder).publicKey, { model: 'flowers', version });
  } finally {
    await store.close();
  }
}

type Cell = string | number | Uint8Array;

function sql(folder: string, text: string, ...values: Cell[]): Record<string, Cell>[] {
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  const rows = database.prepare(text).all(...values) as Record<string, Cell>[];
  database.close();
  return rows;
}

const FIVE = ['a', 'b', 'c', 'd', 'e'];

describe('a version whose updates are retained', () => {
  test.each([
    ['the mean', {}],
    ['a server optimizer, whose memory is made again too', { strategy: { name: 'fedAdam' } }],
    ['a rule that sees each update', { strategy: { name: 'median' } }],
    ['a rule that leaves updates out', { strategy: { name: 'krum' } }],
  ])('is made again bit for bit: %s', async (_, changes) => {
    const folder = await trained({ retainUpdates: 5, ...changes }, { rounds: 2, ids: FIVE });
    for (const version of [2, 3]) {
      expect(await audited(folder, version)).toMatchObject({ verdict: 'same', version, updates: 5, parameters: 39 });
    }
  });

  test.each([
    { encoding: 'mxint4', topK: TOP_K },
    { encoding: 'mxint4', topK: TOP_K, strategy: { name: 'multiKrum' } },
    { encoding: 'mxint4', rotate: true },
  ] as const)('is made again in any format: %o', async (changes) => {
    const format = formatOf({ ...config, compression: 'none', ...changes });
    const folder = await trained({ retainUpdates: 5, ...changes }, { ids: FIVE, format });
    expect(await audited(folder)).toMatchObject({ verdict: 'same', version: 2, updates: 5 });
  });

  test('is one of the newest so many; of others it is said which are', async () => {
    const folder = await trained({ retainUpdates: 2 }, { rounds: 3 });
    expect(await audited(folder, 2)).toEqual({
      verdict: 'not-retained',
      version: 2,
      why: 'the updates of version 2 of flowers were not retained: those of versions 3 to 4 are',
    });
    expect(await audited(folder, 3)).toMatchObject({ verdict: 'same' });
    expect(await audited(folder)).toMatchObject({ verdict: 'same', version: 4 });
    expect(await audited(folder, 1)).toEqual({
      verdict: 'not-retained',
      version: 1,
      why: 'version 1 of flowers was imported: it is made of no updates',
    });
    await expect(audited(folder, 5)).rejects.toThrow(/model "flowers" has no version 5/);
  });

  test('is none by default, and nothing of an update is kept', async () => {
    const folder = await trained({});
    expect(await audited(folder)).toMatchObject({
      verdict: 'not-retained',
      why: expect.stringMatching(/--retain-updates/),
    });
    expect(sql(folder, 'SELECT count(*) AS n FROM retained_chunks')).toEqual([{ n: 0 }]);
    expect(String(sql(folder, 'SELECT config_json FROM tasks')[0]!['config_json'])).not.toContain('retainUpdates');
  });

  test('can also be audited once older versions were collected, and its base was kept for that', async () => {
    const folder = await trained({ retainUpdates: 1 }, { rounds: 4 });
    const store = SqliteStore.open(folder);
    expect((await store.collect('flowers', 1)).versions).toEqual([1, 2, 3]);
    await store.close();
    expect(await audited(folder)).toMatchObject({ verdict: 'same', version: 5 });
  });
});

describe('an audit names the first difference', () => {
  const first = 'SELECT min(update_id) FROM retained_updates';
  /** Changes the header of the first update. */
  const changeHeader = (folder: string, change: (header: ReturnType<typeof headerOf>) => void): void => {
    const header = headerOf(folder);
    change(header);
    sql(
      folder,
      `UPDATE retained_updates SET header = ? WHERE update_id = (${first})`,
      toBinary(UpdateHeaderSchema, header),
    );
  };
  const headerOf = (folder: string) => {
    const [row] = sql(folder, `SELECT header FROM retained_updates WHERE update_id = (${first})`);
    return fromBinary(UpdateHeaderSchema, row!['header'] as Uint8Array);
  };

  test.each<[string, RegExp, (folder: string) => void]>([
    [
      'an update that is gone',
      /^update \w{64} is listed and not retained$/,
      (folder) => {
        sql(folder, `DELETE FROM retained_chunks WHERE update_id = (${first})`);
        sql(folder, `DELETE FROM retained_updates WHERE update_id = (${first})`);
      },
    ],
    [
      'an update that was added',
      /^update 00000000\w{56} is retained and not listed$/,
      (folder) => {
        const header = toBinary(UpdateHeaderSchema, create(UpdateHeaderSchema, {}));
        sql(folder, `INSERT INTO retained_updates VALUES (?, 'flowers', 2, ?, 0)`, new Uint8Array(32), header);
      },
    ],
    [
      'another payload',
      /^update \w{64} has another payload$/,
      (folder) => {
        const [row] = sql(folder, `SELECT data FROM retained_chunks WHERE update_id = (${first})`);
        const data = Uint8Array.from(row!['data'] as Uint8Array);
        data[20]! ^= 1;
        const text = `UPDATE retained_chunks SET data = ?, data_digest = ? WHERE update_id = (${first})`;
        sql(folder, text, data, sha256(data));
      },
    ],
    [
      'another agent',
      /^update \w{64} does not have the id that its agent, round, base and payload make$/,
      (folder) => changeHeader(folder, (header) => (header.agentId = 'z')),
    ],
    [
      'another round',
      /^the round of update \w{64} is 9 and was published as 1$/,
      (folder) => changeHeader(folder, (header) => (header.round = 9n)),
    ],
    [
      'another weight',
      /^the weight of update \w{64} is 77 and was published as [123]$/,
      (folder) => changeHeader(folder, (header) => (header.weight = 77n)),
    ],
    [
      'another report',
      /^the mean of loss is [\d.]+ and was published as [\d.]+$/,
      (folder) => changeHeader(folder, (header) => (header.metrics = { loss: 50 })),
    ],
    [
      'another rate of the server',
      /^weight \d+ of 39 is -?[\d.]+ and was published as -?[\d.]+$/,
      (folder) => {
        const name = JSON.stringify({ name: 'fedAvg', serverLearningRate: 0.5 });
        sql(folder, `UPDATE tasks SET digest = NULL, config_json = json_set(config_json, '$.strategy', json(?))`, name);
      },
    ],
    [
      'another strategy',
      /^the strategy is median and was published as fedAvg$/,
      (folder) =>
        void sql(
          folder,
          `UPDATE tasks SET digest = NULL, config_json = json_set(config_json, '$.strategy.name', 'median')`,
        ),
    ],
  ])('%s', async (_, difference, tamper) => {
    const folder = await trained({ retainUpdates: 1 });
    expect(await audited(folder)).toMatchObject({ verdict: 'same' });
    tamper(folder);
    expect(await audited(folder)).toEqual({
      verdict: 'different',
      version: 2,
      difference: expect.stringMatching(difference),
    });
  });

  test('damage is no difference: it is named as damage', async () => {
    const folder = await trained({ retainUpdates: 1 });
    sql(folder, `UPDATE retained_chunks SET data = zeroblob(length(data)) WHERE update_id = (${first})`);
    await expect(audited(folder)).rejects.toThrow(/^update \w{64} is damaged on disk \(chunk 0\)/);
  });
});
