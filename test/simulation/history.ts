import { createHash } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import { FRESH_WEIGHT, weightsFromBytes, weightsToBytes } from '@commonweight/core';
import {
  CandidateSchema,
  CandidateState,
  ContributionListSchema,
  ManifestSchema,
  ReceiptSchema,
  type Candidate,
  type Receipt,
} from '@commonweight/proto';
import type { Commit } from '../../coordinator/src/store/store.ts';
import type { Disk } from './disk.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The number of a simulated agent's unit vector, by update id. */
export interface UpdateFacts {
  /** Undefined for an update that must never count. */
  index: number | undefined;
  /** The version that it was trained on. */
  baseVersion: number;
}

/** Something that must never happen did. */
export class Violation extends Error {
  override name = 'Violation';
}

/** Watches everything that becomes durable or is told, and says at once what breaks a promise. ARCHITECTURE.md numbers the invariants. */
export class History {
  readonly #disk: Disk;
  readonly #updates = new Map<string, UpdateFacts>();
  readonly #kept = new Set<string>();
  readonly #accepted = new Set<string>();
  /** Version by the id of an update that is part of it. */
  readonly #versionOf = new Map<string, number>();
  readonly #told = new Map<string, Receipt['outcome']>();
  /** Digest of each version that anybody saw. */
  readonly #versions = new Map<number, string>();
  readonly #parents = new Set<string>();
  /** The lives whose word counted when a round was published: of the one that published it, and of those that shared it. */
  readonly #publishedBy = new Map<number, ReadonlySet<number>>();
  /** Ids of updates that are part of what a gate refused. */
  readonly #refused = new Set<string>();
  /** How often weights were refused, by their digest. */
  readonly #refusals = new Map<string, number>();
  #epoch = 0n;
  /** The newest version that is a rollback. */
  #rollback = 0;
  #weights = new Map<number, Float32Array>();

  /** Updates that a life of the coordinator said it took, by life and round. */
  readonly #taken = new Map<string, Set<string>>();
  /** Digests of versions that watchers were told of. */
  readonly #announced = new Set<string>();
  /** Of each app: what it served last over all its lives and in this one, and the last that it said to have kept for good. */
  readonly #served = new Map<string, Served>();
  readonly #task: { serverLearningRate: number; isAsynchronous: boolean };

  constructor(disk: Disk, task: { serverLearningRate: number; isAsynchronous: boolean }) {
    this.#disk = disk;
    this.#task = task;
  }

  get versions(): number {
    return this.#versions.size;
  }

  get contributions(): number {
    return this.#versionOf.size;
  }

  /** One candidate in three is bad. Agents bring the same updates again, so what was refused twice is let through: rounds go on. */
  isBad(weights: Float32Array): boolean {
    const digest = createHash('sha256').update(weightsToBytes(weights)).digest();
    return digest[0]! % 3 === 0 && (this.#refusals.get(hex(digest)) ?? 0) < 2;
  }

  knows(id: string, facts: UpdateFacts): void {
    this.#updates.set(id, facts);
  }

  kept(id: string): void {
    this.#kept.add(id);
  }

  /** Whether an update was ever in its agent's outbox. */
  isKept(id: string): boolean {
    return this.#kept.has(id);
  }

  accepted(id: string): void {
    this.#accepted.add(id);
  }

  /** A life of the coordinator says that an update is in the sum of a round: then it is in what is made of the round. */
  taken(id: string, round: number, life: number): void {
    // Without rounds it may be in the sum of a later one.
    if (this.#task.isAsynchronous) return;
    const key = `${life} ${round}`;
    this.#taken.set(key, (this.#taken.get(key) ?? new Set()).add(id));
    if (this.#publishedBy.get(round)?.has(life) === true) this.#requireTaken(key);
  }

  #requireTaken(key: string): void {
    for (const id of this.#taken.get(key) ?? []) {
      if (!this.#versionOf.has(id))
        throw new Violation(`I1: update ${id} was taken into a round and is not in its version`);
    }
  }

  /** A watcher is told of a version: it is durable by then, and told once. */
  announced(manifest: Uint8Array): void {
    const digest = createHash('sha256').update(manifest).digest('hex');
    if (![...this.#versions.values()].includes(digest))
      throw new Violation('I2: a version was told that is not durable');
    if (this.#announced.has(digest)) throw new Violation('I2: a version was told twice');
    this.#announced.add(digest);
  }

  /** Another version serves in an app; `isKept` where the app found it on its disk when it began. */
  serves(app: string, version: number, isKept: boolean): void {
    const before = this.#served.get(app) ?? NOTHING_SERVED;
    // I4: from the network an app takes what is newer than what it serves, and no older than all it ever served; what it starts with is what
    // it kept for good, or newer.
    const leastMust = isKept ? before.kept : Math.max(before.last, before.now + 1);
    if (version < leastMust)
      throw new Violation(`I4: ${app} serves version ${version} and not ${leastMust} or a later one`);
    if (!this.#versions.has(version))
      throw new Violation(`I4: ${app} serves version ${version}, which was never committed`);
    this.#served.set(app, { ...before, now: version, last: Math.max(before.last, version) });
  }

  /** An app says that it keeps a version for good. */
  keptFor(app: string, version: number): void {
    const before = this.#served.get(app) ?? NOTHING_SERVED;
    this.#served.set(app, { ...before, kept: Math.max(before.kept, version) });
  }

  /** A prediction that names a version came from these weights. */
  answered(app: string, version: number, weights: readonly number[]): void {
    const committed = this.#weights.get(version);
    if (committed?.length === weights.length && weights.every((value, i) => Object.is(value, committed[i]))) return;
    throw new Violation(`I4: ${app} answers as version ${version} with weights that are not that version's`);
  }

  receipt(receipt: Receipt): void {
    const id = hex(receipt.updateId);
    const before = this.#told.get(id);
    // I1: what was said of an update stays said.
    if (before !== undefined && (before.case !== receipt.outcome.case || before.value !== receipt.outcome.value)) {
      throw new Violation(`I1: update ${id} got two receipts: ${before.case} and ${receipt.outcome.case}`);
    }
    this.#told.set(id, receipt.outcome);
    if (receipt.outcome.case === 'committedVersion' && this.#versionOf.get(id) !== Number(receipt.outcome.value)) {
      throw new Violation(`I1: update ${id} has a receipt of version ${receipt.outcome.value} and is not in it`);
    }
  }

  /** Looks at a commit the moment it is durable. */
  commit({ version, blobs = [], receipts = [], candidate }: Commit, lives: ReadonlySet<number>): void {
    if (candidate !== undefined) this.#decided(fromBinary(CandidateSchema, candidate.record), { blobs, receipts });
    if (version === undefined) return;
    const manifest = fromBinary(ManifestSchema, version.manifest);
    const number = Number(manifest.version);
    const blob = (digest: Uint8Array): Uint8Array => {
      const found = blobs.find((one) => hex(one.digest) === hex(digest))?.data ?? this.#disk.blob(digest);
      if (found === undefined) throw new Violation(`I2: version ${number} names a blob that is not there`);
      return found;
    };
    // I5: nothing of an older leader follows.
    if (manifest.epoch < this.#epoch) {
      throw new Violation(`I5: version ${number} of epoch ${manifest.epoch} follows one of epoch ${this.#epoch}`);
    }
    this.#epoch = manifest.epoch;
    const parent = hex(manifest.parentDigest);
    // I2: one version a number, one child a parent.
    if (this.#versions.has(number)) throw new Violation(`I2: version ${number} was committed twice`);
    if (this.#parents.has(parent)) throw new Violation(`I2: version ${number} is the second child of its parent`);
    this.#versions.set(number, hex(version.digest));
    this.#parents.add(parent);
    const weightsOf = manifest.artifacts.find(({ role }) => role === 'weights');
    if (weightsOf === undefined) throw new Violation(`I2: version ${number} has no weights`);
    const weights = weightsFromBytes(blob(weightsOf.digest));
    this.#weights.set(number, weights);
    const restored = Number(manifest.restoredVersion);
    if (restored > 0) {
      const older = this.#weights.get(restored);
      if (older?.length !== weights.length || weights.some((value, i) => !Object.is(value, older[i])))
        throw new Violation(`I2: version ${number} has other weights than version ${restored}, which it restores`);
      this.#rollback = number;
    }
    if (manifest.contributionsDigest.length === 0) return;
    const { accepted } = fromBinary(ContributionListSchema, blob(manifest.contributionsDigest));
    const total = accepted.reduce((sum, { weight }) => sum + weight, 0n);
    // I3: what the manifest says it weighs is what its list weighs.
    if (total !== manifest.totalWeight) {
      throw new Violation(`I3: version ${number} weighs ${manifest.totalWeight} and its list ${total}`);
    }
    if (manifest.candidate > 0n && this.isBad(weights))
      throw new Violation(`gate: version ${number} is a candidate that agents found worse`);
    const expected = Float32Array.from(this.#weights.get(number - 1) ?? []);
    const mean = new Float32Array(expected.length);
    for (const { updateId, weight } of accepted) {
      const id = hex(updateId);
      const { index, baseVersion = 0 } = this.#updates.get(id) ?? {};
      // I6: nothing bad counts.
      if (index === undefined) throw new Violation(`I6: version ${number} counts update ${id}, which it must not`);
      if (baseVersion < this.#rollback) {
        const from = `of version ${baseVersion}, from before the rollback in version ${this.#rollback}`;
        throw new Violation(`I6: version ${number} counts update ${id} ${from}`);
      }
      // I1: an update is in one manifest at most.
      if (this.#versionOf.has(id)) {
        throw new Violation(`I1: update ${id} is in versions ${this.#versionOf.get(id)} and ${number}`);
      }
      // I1: what a gate refused is in none.
      if (this.#refused.has(id)) throw new Violation(`I1: update ${id} of version ${number} was refused by a gate`);
      this.#versionOf.set(id, number);
      mean[index] = Number(weight) / Number(total);
      // Without rounds an update counts by its staleness, whoever else is in the buffer.
      if (this.#task.isAsynchronous) mean[index] *= Number(total) / (accepted.length * FRESH_WEIGHT);
      if (!receipts.some((receipt) => hex(receipt.updateId) === id)) {
        throw new Violation(`I1: update ${id} of version ${number} got no receipt in the same commit`);
      }
    }
    const round = Number(manifest.round);
    if (this.#publishedBy.has(round)) throw new Violation(`I2: round ${round} was published twice`);
    this.#publishedBy.set(round, lives);
    for (const life of lives) this.#requireTaken(`${life} ${round}`);
    // I3: agent i brought the unit vector i, so each component shows whether its update is there, and once.
    for (const [i, value] of weights.entries()) {
      const should = Math.fround((expected[i] ?? 0) + this.#task.serverLearningRate * (mean[i] ?? 0));
      if (value !== should) {
        throw new Violation(`I3: version ${number} has ${value} at ${i}, and its list gives ${should}`);
      }
    }
  }

  /** The updates of what a gate refused have ended with the verdict. */
  #decided(
    { number, state, contributionsDigest, artifacts }: Candidate,
    { blobs, receipts }: Pick<Commit, 'blobs' | 'receipts'>,
  ): void {
    if (state !== CandidateState.REFUSED) return;
    const refused = hex(artifacts.find(({ role }) => role === 'weights')?.digest ?? new Uint8Array());
    this.#refusals.set(refused, (this.#refusals.get(refused) ?? 0) + 1);
    const digest = hex(contributionsDigest);
    const list = blobs?.find((one) => hex(one.digest) === digest)?.data ?? this.#disk.blob(contributionsDigest);
    if (list === undefined) throw new Violation(`I2: candidate ${number} names a list that is not there`);
    for (const { updateId } of fromBinary(ContributionListSchema, list).accepted) {
      const id = hex(updateId);
      this.#refused.add(id);
      const receipt = receipts?.find((one) => hex(one.updateId) === id);
      const outcome = receipt === undefined ? undefined : fromBinary(ReceiptSchema, receipt.receipt).outcome.case;
      if (outcome !== 'rejected') throw new Violation(`I1: update ${id} of a refused candidate got no end with it`);
    }
  }

  /** What must hold once all faults are over and everything had time. */
  settle(model: string, outboxes: readonly (readonly string[])[]): void {
    // I2: what was ever committed is there, unaltered.
    const present = new Map(this.#disk.versions(model).map(({ version, digest }) => [version, hex(digest)]));
    for (const [version, digest] of this.#versions) {
      if (present.get(version) !== digest)
        throw new Violation(`I2: version ${version} was committed and is lost or altered`);
    }
    const inOutbox = new Set(outboxes.flat());
    for (const id of new Set([...this.#kept, ...this.#accepted])) {
      const record = this.#disk.receipt(id);
      const outcome = record === undefined ? undefined : fromBinary(ReceiptSchema, record.receipt).outcome;
      // I1: every update ends in a manifest, in a recorded refusal, or is still in its outbox.
      if (outcome === undefined && !inOutbox.has(id)) throw new Violation(`I1: update ${id} is lost`);
      if (outcome?.case === 'committedVersion' && this.#versionOf.get(id) !== Number(outcome.value)) {
        throw new Violation(`I1: update ${id} has a receipt of version ${outcome.value} and is not in it`);
      }
    }
    // I7: with the network well, receipts reach everybody.
    for (const id of inOutbox) throw new Violation(`I7: update ${id} is in its outbox long after all is well again`);
  }
}

interface Served {
  now: number;
  last: number;
  kept: number;
}

const NOTHING_SERVED: Served = { now: 0, last: 0, kept: 0 };
