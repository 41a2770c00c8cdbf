import { fromBinary } from '@bufbuild/protobuf';
import { weightsFromBytes } from '@commonweight/core';
import { ContributionListSchema, ManifestSchema, ReceiptSchema, type Receipt } from '@commonweight/proto';
import type { Commit } from '../../coordinator/src/store/store.ts';
import type { Disk } from './disk.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The number of a simulated agent's unit vector, by update id. */
export interface UpdateFacts {
  /** Undefined for an update that must never count. */
  index: number | undefined;
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
  #weights = new Map<number, Float32Array>();

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  get versions(): number {
    return this.#versions.size;
  }

  get contributions(): number {
    return this.#versionOf.size;
  }

  knows(id: string, facts: UpdateFacts): void {
    this.#updates.set(id, facts);
  }

  kept(id: string): void {
    this.#kept.add(id);
  }

  accepted(id: string): void {
    this.#accepted.add(id);
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
  commit({ version, blobs = [], receipts = [] }: Commit): void {
    if (version === undefined) return;
    const manifest = fromBinary(ManifestSchema, version.manifest);
    const number = Number(manifest.version);
    const blob = (digest: Uint8Array): Uint8Array => {
      const found = blobs.find((one) => hex(one.digest) === hex(digest))?.data ?? this.#disk.blob(digest);
      if (found === undefined) throw new Violation(`I2: version ${number} names a blob that is not there`);
      return found;
    };
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
    if (manifest.contributionsDigest.length === 0) return;
    const { accepted } = fromBinary(ContributionListSchema, blob(manifest.contributionsDigest));
    const total = accepted.reduce((sum, { weight }) => sum + weight, 0n);
    // I3: what the manifest says it weighs is what its list weighs.
    if (total !== manifest.totalWeight) {
      throw new Violation(`I3: version ${number} weighs ${manifest.totalWeight} and its list ${total}`);
    }
    const expected = Float32Array.from(this.#weights.get(number - 1) ?? []);
    const mean = new Float32Array(expected.length);
    for (const { updateId, weight } of accepted) {
      const id = hex(updateId);
      const index = this.#updates.get(id)?.index;
      // I6: nothing bad counts.
      if (index === undefined) throw new Violation(`I6: version ${number} counts update ${id}, which it must not`);
      // I1: an update is in one manifest at most.
      if (this.#versionOf.has(id)) {
        throw new Violation(`I1: update ${id} is in versions ${this.#versionOf.get(id)} and ${number}`);
      }
      this.#versionOf.set(id, number);
      mean[index] = Number(weight) / Number(total);
      if (!receipts.some((receipt) => hex(receipt.updateId) === id)) {
        throw new Violation(`I1: update ${id} of version ${number} got no receipt in the same commit`);
      }
    }
    // I3: agent i brought the unit vector i, so each component shows whether its update is there, and once.
    for (const [i, value] of weights.entries()) {
      const should = Math.fround((expected[i] ?? 0) + (mean[i] ?? 0));
      if (value !== should) {
        throw new Violation(`I3: version ${number} has ${value} at ${i}, and its list gives ${should}`);
      }
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
