import { generateKeyPairSync, sign } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { connect, type Model } from '@commonweight/client-sdk';
import { logistic, seeded, type RandomStream } from '@commonweight/core';
import { ManifestSchema, signedBytes, type SignedManifest } from '@commonweight/proto';
import { sourceProgram, temporaryFolder, until } from '../support/processes.ts';
import { Publisher } from '../support/publisher.ts';

const FULL = { lies: 500, kills: 200 };
const QUICK = { lies: 50, kills: 10 };
/** One true release after so many lies, which has to come through. */
const LIES_A_TRUTH = 10;
const LIE_MS = 5;
const WAIT_MS = 30_000;

const small = (): ReturnType<typeof logistic> => logistic({ inputs: 4, outputs: 3, seed: 1 });
/** The weights of a version are its number, so that its outputs tell which one it is. */
const numbered = (version: number) => ({ change: (weights: Float32Array) => void weights.fill(version) });
const INPUT = new Float32Array([1, 2, 3, 4]);

type Ports = Parameters<typeof Publisher.open>[0];

/**
 * What an app takes of a coordinator that lies: releases that are forged, older, told again long after they held, or put together from
 * several; with true ones between them. Accepted is what served and was no true release, or answered with other weights than its own.
 */
export async function liedTo(ports: Ports, quick: boolean): Promise<Record<string, number>> {
  const { lies } = quick ? QUICK : FULL;
  const random = seeded('lies');
  const publisher = await Publisher.open(ports);
  const client = await connect(`grpc://127.0.0.1:${ports.grpc}`, { probation: { probationMs: 0 } });
  try {
    for (const version of [1, 2]) publisher.publish(version, small(), numbered(version));
    publisher.say(1, 1);
    const [newest, named] = [await client.model('m'), await client.model('m', { channel: 'stable' })];
    const [served, refusals]: [Map<Model, number[]>, string[]] = [new Map(), []];
    for (const model of [newest, named]) {
      const versions: number[] = [];
      served.set(model, versions);
      model.on('version', ({ to }) => versions.push(to));
      model.on('error', ({ message }) => refusals.push(message));
    }
    let [version, revision, held, accepted] = [2, 1, 1, 0];
    for (let lie = 1; lie <= lies; lie++) {
      if (lie % 2 === 0) await lieOfReleases(publisher, version, random);
      else await lieOfChannel(publisher, { revision: (revision += 1), held, version }, random);
      if (lie % LIES_A_TRUTH !== 0) continue;
      version += 1;
      publisher.publish(version, small(), numbered(version));
      publisher.say((held = revision += 1), version);
      await until(`version ${version}`, WAIT_MS, () => newest.version === version && named.version === version);
      for (const model of [newest, named]) {
        const { outputs, version: by } = await model.predict({ input: INPUT });
        if (by !== version || outputs['logits']?.data[0] !== 11 * version) accepted += 1;
      }
    }
    const isTrue = (one: number, i: number, all: readonly number[]): boolean =>
      one <= version && one > (all[i - 1] ?? 0);
    for (const versions of served.values()) accepted += versions.filter((one, i, all) => !isTrue(one, i, all)).length;
    return { lies, lies_accepted: accepted, lies_told_to_the_app: refusals.length };
  } finally {
    await client.close();
    await publisher.close();
  }
}

/** Tells a release that is none, and what is true again. */
async function lieOfReleases(publisher: Publisher, version: number, random: RandomStream): Promise<void> {
  const [truth, older] = [publisher.released(version), publisher.released(1 + random.integer(version - 1))];
  const next = fromBinary(ManifestSchema, truth.manifest);
  next.version = BigInt(version + 1 + random.integer(5));
  const manifest = toBinary(ManifestSchema, next);
  const stranger = generateKeyPairSync('ed25519');
  const publicKey = stranger.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const strange = sign(null, signedBytes('Manifest', manifest), stranger.privateKey);
  const mixed = create(ManifestSchema, { ...next, artifacts: fromBinary(ManifestSchema, older.manifest).artifacts });
  const lies: SignedManifest[] = [
    // Forged: nobody signed it; somebody else did; and did so in the coordinator's name.
    { ...truth, manifest },
    { ...truth, manifest, publicKey, signature: strange },
    { ...truth, manifest, signature: strange },
    // Rolled back, and told as the newest.
    older,
    // The blobs of one version under the number of another.
    { ...truth, manifest: toBinary(ManifestSchema, mixed) },
    // Another model's signature.
    { ...truth, signature: older.signature },
  ];
  publisher.announce(lies[random.integer(lies.length)]!);
  await new Promise((resolve) => setTimeout(resolve, LIE_MS));
  publisher.announce(truth);
}

/** Tells a record of the channel that is none, or holds no more. */
async function lieOfChannel(
  publisher: Publisher,
  { revision, held, version }: { revision: number; held: number; version: number },
  random: RandomStream,
): Promise<void> {
  const older = 1 + random.integer(version - 1);
  const lies = [
    // Frozen: what once held is told again after its time.
    () => publisher.say(revision, older, { lifetimeMs: -1 }),
    // Rolled back: a revision that is not above the last one that held.
    () => publisher.say(1 + random.integer(held), older),
    // Mixed: a version by the digest of another one.
    () => publisher.say(revision, version, { digestOf: () => new Uint8Array(32).fill(7) }),
    () =>
      publisher.tell({ ...publisher.say(revision, older, { lifetimeMs: -1 }), signature: new Uint8Array(64).fill(1) }),
  ];
  lies[random.integer(lies.length)]!();
  await new Promise((resolve) => setTimeout(resolve, LIE_MS));
}

/** Lives of an app whose model changes all the time, each ended by SIGKILL after a random time; and whether the next starts without a network. */
export async function killedAtRandom(quick: boolean): Promise<Record<string, number>> {
  const { kills } = quick ? QUICK : FULL;
  const random = seeded('kills');
  const folder = temporaryFolder('bench-sdk-kills');
  let booted = 0;
  try {
    for (let life = 1; life <= kills; life++) {
      const app = sourceProgram('test/support/swap-forever.ts', folder);
      await until('a version', WAIT_MS, () => app.output().includes('serves'), app.output);
      await new Promise((resolve) => setTimeout(resolve, 200 * random.uniform()));
      await app.end('SIGKILL');
      const client = await connect('grpc://127.0.0.1:1', { cacheDir: join(folder, 'cache'), readyTimeoutMs: 1000 });
      try {
        const { outputs, version } = await (await client.model('m')).predict({ input: INPUT });
        if (outputs['logits']?.data[0] === 11 * version) booted += 1;
      } catch {
        // Counted: it is the figure.
      } finally {
        await client.close();
      }
    }
    return { kills, kills_booted: booted };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
