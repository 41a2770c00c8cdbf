import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { create, fromBinary } from '@bufbuild/protobuf';
import { BlobCache, FolderStorage, KeyPin, nodePlatform, Ratchet, sha256 } from '@commonweight/client-sdk';
import { openCoordinator, type CoordinatorService } from '@commonweight/coordinator';
import { logistic, seeded, type RandomStream } from '@commonweight/core';
import {
  equalBytes,
  gridFromWire,
  ManifestSchema,
  openManifest,
  openReceipt,
  SignedReceiptSchema,
} from '@commonweight/proto';
import { ReleaseCache } from '../../client-sdk/src/cache/release-cache.ts';
import { connectOn } from '../../client-sdk/src/client.ts';
import { fetchRelease } from '../../client-sdk/src/model/stage.ts';
import { openRelease } from '../../client-sdk/src/trust/release.ts';
import { verifierOf } from '../../coordinator/src/identity/signer.ts';
import { openOutbox } from '../../edge-agent/src/folder-disk.ts';
import { readVector, writeVector } from '../../edge-agent/src/vector-file.ts';
import { MemoryLink } from '../support/memory-link.ts';
import { temporaryFolder, until } from '../support/processes.ts';
import { startTraining, TestAgent, updateOf } from '../support/test-agent.ts';
import type { Section } from './section.ts';

/** Flips of every kind of file, whatever the time, and where there is time. */
const FLIPS_MIN = 20;
const FLIPS_LONG = 500;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** One kind of file, and what is read from it. */
interface Kind {
  name: string;
  /** A folder with the file, as it should be. */
  folder: string;
  /** Path inside the folder. */
  file: string;
  /** What of the folder is used, as text; throws or says `damaged` where damage is noticed. */
  use(folder: string): Promise<string>;
}

/** Flips single bits of every kind of file that outlives a process: what is read is what was written, or damage that is named. */
export const bitFlips: Section = {
  name: 'bit-flips',
  share: 2,
  lacks: async () => undefined,
  run: async ({ seed, minutes, log }) => {
    const wanted = minutes === 0 ? FLIPS_MIN : FLIPS_LONG;
    const random = seeded(seed).fork('bit flips');
    const root = temporaryFolder('chaos-flips');
    const violations: string[] = [];
    const figures: Record<string, number> = { flips: 0, flips_detected: 0, flips_harmless: 0, flips_unnoticed: 0 };
    try {
      for (const kind of await kinds(root)) {
        const right = await kind.use(kind.folder);
        const copy = join(root, 'copy');
        for (let i = 0; i < wanted; i++) {
          rmSync(copy, { recursive: true, force: true });
          cpSync(kind.folder, copy, { recursive: true });
          const bit = flip(join(copy, kind.file), random);
          const said = await kind.use(copy).catch((error: Error) => `damaged: ${error.message}`);
          figures['flips']! += 1;
          if (said === right) figures['flips_harmless']! += 1;
          else if (said.includes('damaged')) figures['flips_detected']! += 1;
          else {
            figures['flips_unnoticed']! += 1;
            violations.push(`I4: bit ${bit} of ${kind.name} was flipped, and what was read is another thing`);
          }
        }
        log(`${kind.name}: ${wanted} flips`);
      }
      return { figures, violations };
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  },
};

function flip(path: string, random: RandomStream): number {
  const bytes = readFileSync(path);
  const bit = random.integer(8 * bytes.length);
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  writeFileSync(path, bytes);
  return bit;
}

async function kinds(root: string): Promise<Kind[]> {
  const coordinator = await coordinatorFolder(join(root, 'coordinator'));
  const agent = await agentFolder(join(root, 'agent'));
  return [
    { name: 'the database', ...coordinator, file: 'commonweight.sqlite' },
    { name: 'the signing key', ...coordinator, file: 'signing-key.pem' },
    ...agent,
    ...(await appFolder(join(root, 'app'))),
  ];
}

/** A coordinator's folder after some rounds. */
async function coordinatorFolder(folder: string): Promise<Pick<Kind, 'folder' | 'use'>> {
  mkdirSync(folder, { recursive: true });
  const service = await openCoordinator({ dataDir: folder });
  await startTraining(service, { rounds: 3 });
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  const ids: Uint8Array[] = [];
  for (let round = 1; round <= 3; round++) {
    await until('the invitations', 10_000, () => agents.every((agent) => agent.assignments().length === round));
    const grid = gridFromWire(agents[0]!.assignments()[round - 1]!.grid!);
    for (const agent of agents) {
      const update = updateOf(agent.id, grid, { round: BigInt(round), baseVersion: BigInt(round) });
      ids.push(update.header.updateId);
      await agent.submit(update);
    }
    await until('the version', 10_000, async () => Number((await service.getTask('train')).version) === round + 1);
  }
  const { publicKey } = service;
  await service.close();
  return { folder, use: (copy) => usedCoordinator(copy, ids, publicKey) };
}

/** Everything that agents and apps would be told, each as far as they would believe it. */
async function usedCoordinator(folder: string, ids: readonly Uint8Array[], key: Uint8Array): Promise<string> {
  const verify = verifierOf(key);
  const opened: CoordinatorService[] = [];
  const told: unknown[] = [];
  let newest = 0n;
  try {
    const service = await openCoordinator({
      dataDir: folder,
      onFatal: (error) => told.push(`damaged: ${error.message}`),
    });
    opened.push(service);
    const { createdMs: _, ...task } = (await service.getTask('train')) as unknown as Record<string, unknown>;
    told.push(task, await service.listModels());
    for (const release of await service.listVersions('flowers')) {
      const manifest = openManifest(release, key, verify);
      told.push(hex(release.manifest));
      for (const { digest, size } of [...manifest.artifacts, { digest: manifest.contributionsDigest, size: 0n }]) {
        if (digest.length === 0) continue;
        const { data, totalSize } = await service.readBlob(digest, 0, 1 << 20);
        if (hex(sha256(data)) !== hex(digest)) throw new Error('a blob is damaged');
        told.push(totalSize, size);
      }
    }
    told.push(hex((await service.getModel('flowers', 0)).manifest));
    for (const id of ids) {
      const { receipt } = await service.updateStatus(id);
      const signed = receipt ?? create(SignedReceiptSchema);
      told.push(receipt === undefined ? 'no receipt' : openReceipt(signed, key, verify).outcome);
    }
    newest = fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest).epoch;
  } finally {
    for (const service of opened) await service.close();
  }
  told.push(epochOf(folder) >= Number(newest));
  return JSON.stringify(told, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}

function epochOf(folder: string): number {
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'), { readOnly: true });
  try {
    return Number(database.prepare("SELECT epoch FROM leases WHERE name = 'leader'").get()?.['epoch']);
  } finally {
    database.close();
  }
}

/** An agent's folder with an update that waits, what its encoding left over, and whom it trusts. */
async function agentFolder(folder: string): Promise<Kind[]> {
  mkdirSync(folder, { recursive: true });
  const random = seeded('agent');
  const storage = new FolderStorage(folder);
  const outbox = await openOutbox(join(folder, 'outbox'), () => {});
  const grid = { lsbExponent: -20, valueMaxExponent: 3, weightMax: 10, cohortMax: 10 };
  const update = updateOf('a', grid);
  await outbox.put(update);
  const vector = Float32Array.from({ length: 200 }, () => random.normal());
  await writeVector({ storage, sha256 }, 'residual-train.f32', vector);
  const blob = Uint8Array.from({ length: 300 }, () => random.integer(256));
  const digest = sha256(blob);
  await new BlobCache(storage, 'blobs', sha256).put(digest, blob);
  const pin = await KeyPin.open({ storage, path: 'coordinator.key' });
  pin.pin(sha256(blob));
  await pin.saved();
  const ratchet = await Ratchet.open({ storage, path: 'newest-train' });
  ratchet.raise('m', 1234);
  await ratchet.saved();
  const damaged = (path: string): void => {
    throw new Error(`${path} is damaged`);
  };
  const of = (name: string, file: string, use: (copy: string) => Promise<string>): Kind => ({
    name,
    folder,
    file,
    use,
  });
  const [name = ''] = readdirSync(join(folder, 'outbox'));
  return [
    of('an update in an outbox', `outbox/${name}`, async (copy) => {
      const [entry] = (await openOutbox(join(copy, 'outbox'), damaged)).entries();
      return `${hex(entry!.header.updateId)} ${hex(entry!.payload)}`;
    }),
    of('what an encoding left over', 'residual-train.f32', async (copy) =>
      String(await readVector({ storage: new FolderStorage(copy), sha256 }, 'residual-train.f32', 200, damaged)),
    ),
    of('a cached blob', `blobs/${hex(digest)}`, async (copy) => {
      const cached = await new BlobCache(new FolderStorage(copy), 'blobs', sha256).get(digest);
      return cached === undefined ? 'damaged: it is fetched again' : hex(cached);
    }),
    of('the trusted key', 'coordinator.key', async (copy) =>
      hex((await KeyPin.open({ storage: new FolderStorage(copy), path: 'coordinator.key' })).key ?? new Uint8Array()),
    ),
    of('the newest version seen', 'newest-train', async (copy) =>
      String((await Ratchet.open({ storage: new FolderStorage(copy), path: 'newest-train' })).highest),
    ),
  ];
}

/** What an app that follows a model leaves on the disk. */
async function appFolder(folder: string): Promise<Kind[]> {
  const link = new MemoryLink();
  link.publish(1, logistic({ inputs: 12, outputs: 3, seed: 1 }));
  const client = await connectOn({ ...nodePlatform, openLink: () => link }, '', { cacheDir: folder });
  await client.model('m');
  await client.close();
  const { publicKey } = link.newest!;
  const use = async (copy: string): Promise<string> => {
    const storage = new FolderStorage(copy);
    const pin = await KeyPin.open({ storage });
    if (!equalBytes(pin.key ?? new Uint8Array(), publicKey)) throw new Error('damaged: another key is trusted');
    const cache = new ReleaseCache(storage, 'models/m', sha256);
    const [signed] = await cache.load();
    if (signed === undefined) return 'damaged: it is fetched again';
    const release = await openRelease('m', signed, pin, nodePlatform.crypto);
    const { highest } = await Ratchet.open({ storage, path: 'models/m/highest' });
    const committed = await cache.committed();
    if (committed === undefined) throw new Error('damaged: the release is taken for one that was never on trial');
    // Without a link: a blob that is thrown away is an error here, and is fetched by an app that has one.
    const { graph, weights } = await fetchRelease(release, cache.blobs, undefined).catch(() => {
      throw new Error('a blob was damaged and thrown away');
    });
    return JSON.stringify([hex(signed.manifest), hex(graph), hex(weights), highest, committed]);
  };
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map(({ parentPath, name }) => {
    const file = relative(folder, join(parentPath, name));
    return { name: `an app's ${file.replace(/[0-9a-f]{60,}/, 'blob')}`, folder, file, use };
  });
}
