import { StoreError, type Lease, type SharedStore, type Store } from '../../coordinator/src/store/store.ts';
import type { Commit, ReceiptRecord } from '../../coordinator/src/store/store.ts';
import type {
  Change,
  Claim,
  Claimed,
  ClaimRow,
  MemberRow,
  Refused,
  RoundKey,
  Shares,
} from '../../coordinator/src/store/shares.ts';
import type { CrashPoint, Disk } from './disk.ts';
import type { SimulatedProcess } from './process.ts';
import type { VirtualTime } from './virtual-time.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** As in production: what is silent for this long is taken for dead. */
const SILENT_MS = 3_500;
const RENEW_MS = 700;
const LOOK_MS = 250;

/** What a process that uses the database suffers and tells. */
export interface Client {
  process: SimulatedProcess;
  /** How long a statement takes on its way; where there is no way, until there is one. */
  latencyMs(): number;
  /** Whether the database is reached at all. */
  reaches(): boolean;
  /** Asked at each transaction: whether the process dies at it. */
  crashAt(): CrashPoint | undefined;
  onCrash(): void;
  /** Whether a hint of a change reaches it. */
  hears(): boolean;
  onCommit(commit: Commit): void;
}

/** Faults to plant, so that it shows whether the checker sees them. */
export interface PlantedInShares {
  /** A leader's commits do not look at the lease. */
  commitsWithoutLease?: boolean;
  /** A claim does not look whether somebody else has the update. */
  claimsWhatIsClaimed?: boolean;
  /** A claim does not look whether the round is closed. */
  claimsAfterClosing?: boolean;
  /** A part is kept without the ids that are in it. */
  keepsPartsWithoutIds?: boolean;
  /** A replica that was taken for dead goes on. */
  ignoresFencing?: boolean;
  /** What a dead replica had and kept nowhere still counts as taken. */
  trustsTheDead?: boolean;
  /** A claim counts as kept before the part that it is in was. */
  keepsTooEarly?: boolean;
  /** Who takes the lease does not raise its epoch. */
  keepsEpoch?: boolean;
}

interface Row extends ClaimRow {
  key: RoundKey;
}

/**
 * The database that replicas share, as PostgreSQL keeps it: each transaction happens at one instant, some time after it was asked for and
 * some time before the answer is heard. What a commit says is kept by the disk that single coordinators have too.
 */
export class SharedDatabase {
  readonly #disk: Disk;
  readonly #time: VirtualTime;
  readonly #planted: PlantedInShares;
  readonly #lease = { epoch: 0, holder: '', replica: '', renewedMs: -SILENT_MS };
  readonly #replicas = new Map<string, { address: string; renewedMs: number }>();
  readonly #sessions = new Map<string, MemberRow>();
  readonly #rounds = new Map<string, { round: number; isOpen: boolean }>();
  readonly #claims = new Map<string, Row>();
  readonly #parts = new Map<string, Uint8Array>();
  readonly #holders = new Map<string, string>();
  readonly #heard = new Set<{ client: Client; hear: (change: Change) => void }>();
  #joined = 0;

  constructor(disk: Disk, time: VirtualTime, planted: PlantedInShares) {
    this.#disk = disk;
    this.#time = time;
    this.#planted = planted;
  }

  /** Whether a replica is not taken for dead. */
  has(replica: string): boolean {
    return this.#replicas.has(replica);
  }

  /** The replica that claimed an update last, also where its claim is gone: what others say of the update is said in its name. */
  holderOf(updateId: string): string | undefined {
    return this.#holders.get(updateId);
  }

  /** What one process sees of it. */
  async open(client: Client): Promise<SharedStore> {
    const { process, latencyMs, crashAt, onCrash, onCommit } = client;
    const replica = `replica-${(this.#joined += 1)}`;
    const fenced = Promise.withResolvers<StoreError>();
    const leaseLost = Promise.withResolvers<StoreError>();
    let epoch: number | undefined;
    let isClosed = false;
    const dead = (): StoreError => {
      const error = new StoreError('the leader took this replica for dead');
      fenced.resolve(error);
      return error;
    };
    const requireAlive = (): void => {
      if (!this.#replicas.has(replica) && this.#planted.ignoresFencing !== true) throw dead();
    };
    const requireLease = (): void => {
      if (this.#lease.epoch === epoch || this.#planted.commitsWithoutLease === true) return;
      const error = new StoreError('another coordinator leads: this one may not commit any more');
      leaseLost.resolve(error);
      throw error;
    };
    const die = async (): Promise<void> => {
      onCrash();
      await process.wait(0);
    };
    const changes: Change[] = [];
    const tell = (kind: Change['kind'], task = ''): void => void changes.push({ kind, task });
    /** One transaction, or one read. */
    const at = async <T>(work: () => T, writes = true): Promise<T> => {
      if (isClosed) throw new StoreError('the store is closed');
      await process.wait(latencyMs());
      const crash = writes ? crashAt() : undefined;
      if (crash === 'before') await die();
      changes.splice(0);
      const value = work();
      for (const change of changes.splice(0)) this.#tell(change);
      if (crash === 'after') await die();
      await process.wait(latencyMs());
      return value;
    };
    const read = <T>(work: () => T): Promise<T> => at(work, false);

    await at(() => this.#replicas.set(replica, { address: '', renewedMs: this.#time.elapsedMs }));
    const stopRenewing = this.#time.every(RENEW_MS, () => {
      if (!process.runs() || isClosed || !client.reaches()) return;
      const row = this.#replicas.get(replica);
      if (row !== undefined) row.renewedMs = this.#time.elapsedMs;
      else if (this.#planted.ignoresFencing !== true) dead();
      if (epoch === undefined) return;
      if (this.#lease.epoch === epoch) this.#lease.renewedMs = this.#time.elapsedMs;
      else if (this.#planted.commitsWithoutLease !== true)
        leaseLost.resolve(new StoreError('another coordinator leads: this one may not commit any more'));
    });
    process.onEnd(stopRenewing);

    const takes = (key: RoundKey): boolean => this.#isOpen(key) || this.#planted.claimsAfterClosing === true;
    /** Who has what is to be claimed: undefined where nobody else does. */
    const blocks = (key: RoundKey, { agentId, updateId }: Claim): 'held' | 'taken' | undefined => {
      const before = this.#claims.get(nameOf(key, agentId));
      const isFree = before === undefined || before.updateId === '' || this.#planted.claimsWhatIsClaimed === true;
      if (isFree || (before.updateId === updateId && before.replica === replica)) return undefined;
      return before.updateId === updateId ? 'held' : 'taken';
    };
    const take = (key: RoundKey, claim: Claim, payload?: Uint8Array): void => {
      this.#claims.set(nameOf(key, claim.agentId), { ...claim, key, replica, isKept: payload !== undefined });
      if (payload !== undefined) this.#parts.set(partOf(key, claim.updateId), payload.slice());
      this.#holders.set(claim.updateId, replica);
    };

    const shares: Shares = {
      replica,
      fenced: fenced.promise,
      onChange: (hear) => {
        const one = { client, hear };
        this.#heard.add(one);
        process.onEnd(() => this.#heard.delete(one));
        return () => this.#heard.delete(one);
      },
      advertise: () => Promise.resolve(),
      leaderAddress: () => Promise.resolve(undefined),
      setMembers: (members) =>
        at(() => {
          requireAlive();
          for (const [agentId, member] of members) {
            if (member !== undefined) this.#sessions.set(agentId, { ...member, agentId, replica });
            else if (this.#sessions.get(agentId)?.replica === replica) this.#sessions.delete(agentId);
          }
          tell('fleet');
        }),
      members: () =>
        read(() =>
          [...this.#sessions.values()].filter((one) => one.replica !== replica && this.#replicas.has(one.replica)),
        ),
      round: (task) => read(() => this.#rounds.get(task)),
      claims: (key) =>
        read(() => {
          const isEarly = this.#planted.keepsTooEarly === true;
          return this.#rowsOf(key).map(({ key: _, ...row }) => (isEarly ? { ...row, isKept: true } : row));
        }),
      claim: (key, claim, payload) =>
        at((): Claimed => {
          requireAlive();
          if (!takes(key)) return 'closed';
          const why = blocks(key, claim);
          if (why !== undefined) return why;
          take(key, claim, payload);
          tell('claims', key.task);
          return 'claimed';
        }),
      claimAll: (key, claims) =>
        at(() => {
          requireAlive();
          if (!takes(key)) return 'closed' as const;
          const blocked = new Map<string, 'held' | 'taken'>();
          for (const claim of claims) {
            const why = blocks(key, claim);
            if (why !== undefined) blocked.set(claim.updateId, why);
          }
          if (blocked.size > 0) return blocked;
          for (const claim of claims) take(key, claim);
          tell('claims', key.task);
          return blocked;
        }),
      giveUp: (key, agentId) =>
        at(() => {
          requireAlive();
          const name = nameOf(key, agentId);
          if (!this.#isOpen(key) || this.#claims.has(name)) return;
          const nothing: Claim = { agentId, updateId: '', weight: 0, metrics: {} };
          this.#claims.set(name, { ...nothing, key, replica, isKept: true });
          tell('claims', key.task);
        }),
      disown: (key) =>
        at(() => {
          for (const [name, row] of this.#claims) {
            if (same(row.key, key) && row.replica === replica && !row.isKept) this.#claims.delete(name);
          }
          tell('claims', key.task);
        }),
      keep: (key, updateIds, sum) =>
        at(() => {
          requireAlive();
          if (this.#rounds.get(key.task)?.round !== key.round) return;
          this.#parts.set(partOf(key, replica), sum.slice());
          for (const row of this.#rowsOf(key)) {
            if (row.replica !== replica || this.#planted.keepsPartsWithoutIds === true) continue;
            row.isKept = updateIds.includes(row.updateId);
          }
          tell('kept', key.task);
        }),
      refuse: (key, agentId, receipt) => at((): Refused => this.#refuse(key, agentId, receipt)),
      setOpen: (key, isOpen) =>
        at(() => {
          requireLease();
          this.#rounds.set(key.task, { round: key.round, isOpen });
          tell(isOpen ? 'task' : 'closing', key.task);
        }),
      fence: (named = []) =>
        at(() => {
          const silent = [...this.#replicas].filter(
            ([name, { renewedMs }]) =>
              name !== replica && (named.includes(name) || renewedMs < this.#time.elapsedMs - SILENT_MS),
          );
          if (silent.length === 0) return [];
          requireLease();
          const died = silent.map(([name]) => name);
          for (const name of died) this.#replicas.delete(name);
          for (const [agentId, one] of this.#sessions) if (died.includes(one.replica)) this.#sessions.delete(agentId);
          for (const [name, row] of this.#claims) {
            if (!died.includes(row.replica) || row.isKept) continue;
            if (this.#planted.trustsTheDead === true) row.isKept = true;
            else this.#claims.delete(name);
          }
          tell('fleet');
          return died;
        }),
      parts: (key) =>
        read(() => {
          const names = new Set(this.#rowsOf(key).map((row) => row.replica));
          names.delete(replica);
          return [...names].sort().flatMap((name) => this.#parts.get(partOf(key, name)) ?? []);
        }),
      ownPart: (key) => read(() => this.#parts.get(partOf(key, replica)) ?? new Uint8Array()),
      payload: (key, updateId) => read(() => this.#parts.get(partOf(key, updateId)) ?? new Uint8Array()),
      close: () =>
        at(() => {
          for (const [agentId, one] of this.#sessions) if (one.replica === replica) this.#sessions.delete(agentId);
          for (const [name, row] of this.#claims) if (row.replica === replica && !row.isKept) this.#claims.delete(name);
          this.#replicas.delete(replica);
          tell('fleet');
        }),
    };

    const reads = {
      version: (model: string, version: number) =>
        read(() => this.#disk.versions(model).find((one) => one.version === version)),
      newestVersion: (model: string) => read(() => this.#disk.versions(model).at(-1)),
      versions: (model: string) => read(() => this.#disk.versions(model)),
      models: () => read(() => this.#disk.models()),
      variants: (model: string, version: number) => read(() => this.#disk.variants(model, version)),
      channel: (model: string, channel: string) => read(() => this.#disk.channel(model, channel)),
      channels: () => read(() => this.#disk.channels()),
      reportSnapshots: () => read(() => this.#disk.reportSnapshots()),
      receipt: (updateId: Uint8Array) => read(() => this.#disk.receipt(hex(updateId))),
      tasks: () => read(() => this.#disk.tasks()),
      blobSize: (digest: Uint8Array) => read(() => this.#disk.blob(digest)?.length),
      readBlob: (digest: Uint8Array, offset: number, length: number) =>
        read(() =>
          this.#disk
            .read(digest)()
            .slice(offset, offset + length),
        ),
      ...this.#disk.keeping(read),
      close: async () => {
        if (isClosed) return;
        await shares.close();
        if (epoch !== undefined) await at(() => this.#lease.epoch === epoch && (this.#lease.renewedMs = -SILENT_MS));
        isClosed = true;
        stopRenewing();
      },
    };

    const leading = (lease: Lease): Store => ({
      ...reads,
      lease,
      shares,
      collect: (model, keep) =>
        at(() => {
          requireLease();
          return this.#disk.collect(model, keep);
        }),
      commit: (commit) =>
        at(() => {
          requireLease();
          this.#disk.apply(commit);
          if (commit.round !== undefined) this.#begin(commit.round);
          if (commit.task !== undefined) tell('task', commit.task.task);
          onCommit(commit);
        }),
    });

    const tryToLead = (holder: string): Promise<Store | string> =>
      at(() => {
        if (this.#lease.renewedMs > this.#time.elapsedMs - SILENT_MS) return this.#lease.holder;
        const further = this.#planted.keepsEpoch === true ? 0 : 1;
        Object.assign(this.#lease, {
          epoch: this.#lease.epoch + further,
          holder,
          replica,
          renewedMs: this.#time.elapsedMs,
        });
        epoch = this.#lease.epoch;
        return leading({ epoch, lost: leaseLost.promise });
      });

    return {
      ...reads,
      shares,
      tryToLead,
      lead: async ({ holder, signal }) => {
        for (;;) {
          if (signal.aborted) throw new StoreError('stopped while waiting for the lease');
          const taken = await tryToLead(holder);
          if (typeof taken !== 'string') return taken;
          await process.wait(LOOK_MS);
        }
      },
    };
  }

  #tell(change: Change): void {
    for (const { client, hear } of this.#heard) {
      if (client.hears() && client.reaches()) void client.process.wait(client.latencyMs()).then(() => hear(change));
    }
  }

  #isOpen({ task, round }: RoundKey): boolean {
    const now = this.#rounds.get(task);
    return now?.round === round && now.isOpen;
  }

  #rowsOf(key: RoundKey): Row[] {
    return [...this.#claims.values()]
      .filter((row) => same(row.key, key))
      .sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
  }

  #refuse({ task, round }: RoundKey, agentId: string, receipt: ReceiptRecord): Refused {
    const ended = this.#disk.receipt(hex(receipt.updateId));
    if (ended !== undefined) return ended;
    if ((this.#rounds.get(task)?.round ?? 0) !== round) return 'moved';
    const isHeld = [...this.#claims.values()].some(
      (row) => row.key.task === task && row.agentId === agentId && row.updateId === hex(receipt.updateId),
    );
    if (isHeld) return 'held';
    this.#disk.apply({ receipts: [receipt] });
    return 'refused';
  }

  /** An open round begins without claims; what is left of older ones goes. */
  #begin({ task, round, open }: Commit['round'] & {}): void {
    this.#rounds.set(task, { round, isOpen: open });
    for (const [name, row] of this.#claims) if (row.key.task === task) this.#claims.delete(name);
    for (const name of this.#parts.keys()) if (name.startsWith(`${task} `)) this.#parts.delete(name);
  }
}

const nameOf = ({ task, round }: RoundKey, agentId: string): string => `${task} ${round} ${agentId}`;
const partOf = ({ task, round }: RoundKey, part: string): string => `${task} ${round} ${part}`;
const same = (a: RoundKey, b: RoundKey): boolean => a.task === b.task && a.round === b.round;
