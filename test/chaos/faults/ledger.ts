/** A version as the store has it, in the order of the chain. */
export interface Committed {
  model: string;
  version: number;
  epoch: number;
  /** Hexadecimal. */
  digest: string;
  parentDigest: string;
  /** Ids of the updates that it is made of. */
  updates: readonly string[];
}

/** How an update ended: in a version, or refused. */
export type Ending = number | 'rejected';

/** All that was seen of a run, by others than those who did it. */
export interface History {
  /** Of each model in the order of their numbers. */
  versions: readonly Committed[];
  /** Receipts in the store, by update. */
  receipts: ReadonlyMap<string, Ending>;
  /** Ids that were in an outbox at any time. */
  outboxed: ReadonlySet<string>;
  /** Ids that are in one at the end. */
  waiting: ReadonlySet<string>;
  /** Receipts that agents said they had. */
  told: readonly { updateId: string; ending: Ending }[];
  /** Versions that each app served or answered with, one after the other, over all its lives. */
  served: ReadonlyMap<string, readonly number[]>;
}

export interface Tally {
  /** That reached an outbox. */
  updates: number;
  /** With no manifest, no rejection and no outbox. */
  lost: number;
  /** Counted more than once. */
  doubled: number;
  versions: number;
  /** Two manifests of a version, or two with one parent. */
  forks: number;
  violations: string[];
}

/** Holds a history against the invariants of ARCHITECTURE.md. */
export function tallyOf(history: History): Tally {
  const violations: string[] = [];
  const { forks } = chains(history.versions, violations);
  const counts = countsOf(history.versions);
  const doubled = [...counts].filter(([, versions]) => versions.length > 1);
  for (const [id, versions] of doubled) violations.push(`I1: update ${id} is counted in ${versions.join(' and ')}`);
  let lost = 0;
  for (const id of history.outboxed) {
    const isRejected = history.receipts.get(id) === 'rejected';
    if (counts.has(id) || isRejected || history.waiting.has(id)) continue;
    violations.push(`I1: update ${id} is lost: in no manifest, not rejected, in no outbox`);
    lost += 1;
  }
  for (const [id, ending] of history.receipts) contradiction(`the store's receipt`, id, ending, counts, violations);
  for (const { updateId, ending } of history.told) contradiction('a receipt', updateId, ending, counts, violations);
  for (const [app, served] of history.served) {
    served.forEach((version, at) => {
      const highest = Math.max(...served.slice(0, at));
      if (version < highest) violations.push(`I4: ${app} served version ${version} after version ${highest}`);
    });
  }
  const { outboxed, versions } = history;
  return { updates: outboxed.size, lost, doubled: doubled.length, versions: versions.length, forks, violations };
}

/** Which versions count each update. */
function countsOf(versions: readonly Committed[]): Map<string, string[]> {
  const counts = new Map<string, string[]>();
  for (const { model, version, updates } of versions) {
    for (const id of updates) counts.set(id, [...(counts.get(id) ?? []), nameOf({ model, version })]);
  }
  return counts;
}

const nameOf = ({ model, version }: { model: string; version: number }): string => `version ${version} of ${model}`;

function chains(versions: readonly Committed[], violations: string[]): { forks: number } {
  let forks = 0;
  for (const model of new Set(versions.map((version) => version.model))) {
    const chain = versions.filter((version) => version.model === model);
    const children = new Map<string, number>();
    const digests = new Map<number, string>();
    for (const { version, digest, parentDigest } of chain) {
      const sibling = children.get(parentDigest);
      if (digests.has(version)) violations.push(`I2: there are two of ${nameOf({ model, version })}`);
      else if (sibling !== undefined)
        violations.push(`I2: versions ${sibling} and ${version} of ${model} have one parent`);
      if (digests.has(version) || sibling !== undefined) forks += 1;
      children.set(parentDigest, version);
      digests.set(version, digest);
    }
    let highest = 0;
    for (const { version, parentDigest, epoch } of chain) {
      if (epoch < highest)
        violations.push(`I5: ${nameOf({ model, version })} is of epoch ${epoch} and follows epoch ${highest}`);
      highest = Math.max(highest, epoch);
      const parent = digests.get(version - 1);
      if (version > 1 && parent === undefined)
        violations.push(`I2: ${nameOf({ model, version: version - 1 })} is lost`);
      else if ((parent ?? '') !== parentDigest) {
        violations.push(`I2: ${nameOf({ model, version })} has another parent than the version before it`);
      }
    }
  }
  return { forks };
}

function contradiction(
  what: string,
  id: string,
  ending: Ending,
  counts: ReadonlyMap<string, readonly string[]>,
  violations: string[],
): void {
  const versions = counts.get(id) ?? [];
  if (ending === 'rejected') {
    if (versions.length > 0) violations.push(`I1: ${what} rejects update ${id}, which is in ${versions.join(' and ')}`);
  } else if (!versions.some((version) => version.startsWith(`version ${ending} of `))) {
    violations.push(
      `I1: ${what} says that update ${id} is in version ${ending}, and it is in ${versions.join() || 'none'}`,
    );
  }
}
