import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  encodeStep,
  ExactSum,
  formatOf,
  improvedByRule,
  improvedBySum,
  invariant,
  localMethodOf,
  packedLength,
  publishedVersion,
  sentLength,
  type GridSpec,
  type Improvement,
  type Strategy,
  type UpdateFault,
  type UpdateFormat,
  type UpdateShape,
} from '@commonweight/core';
import { equalBytes, SubmitUpdateRequestSchema, UpdateHeaderSchema, type UpdateHeader } from '@commonweight/proto';
import type { Rounding } from '../registry/delta-chain.ts';
import type { OpenVersion } from '../registry/registry.ts';
import type { TaskConfig } from '../round/policy.ts';
import { StoreError, type Commit } from '../store/store.ts';
import { loadedStrategy } from '../strategies/load-strategy.ts';
import { metricMeans, type Metrics } from './counters.ts';
import { inflated } from './inflate.ts';
import { runRule } from './run-rule.ts';
import { RoundSpool } from './spool.ts';
import { hex } from './task-work.ts';

/** How much an update counts, and what its agent reported. */
export interface Counted {
  weight: number;
  metrics: Metrics;
}

/** What one coordinator has of a round, as those who share it see it. */
export interface FoldedSum {
  /** Values of an update. */
  readonly length: number;
  /** Whether each update must be there in the end, so that a sum of them is not enough. */
  readonly seesEach: boolean;
  /** By update id, in hexadecimal. */
  readonly counted: ReadonlyMap<string, Counted>;
  /** How much an update counts in a round on a version. */
  weigh(header: UpdateHeader, version: number): number;
  /** Folds an update in, or says why not: then nothing has changed. Throws StoreError where its bytes find no room. */
  fold(header: UpdateHeader, payload: Uint8Array, counted: Counted): Promise<UpdateFault | undefined>;
  /** What goes into the rows that replicas share of an update that must be there in the end. */
  toRow(header: UpdateHeader, payload: Uint8Array): Uint8Array;
  /** Folds in what another coordinator put into the rows. */
  foldRow(updateId: string, row: Uint8Array, counted: Counted): Promise<void>;
  /** Takes an update out again, exactly. */
  takeOut(header: UpdateHeader, payload: Uint8Array): void;
  /** The sum as bytes: a part of a round's that another coordinator adds to its own. */
  toBytes(): Uint8Array;
  /** Goes on from a part of this coordinator's own. Throws CodecError where the bytes are none. */
  resume(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void;
  /** Adds another coordinator's part. Throws CodecError where the bytes are none. */
  add(part: Uint8Array): void;
  /** Adds a relay's part, with the updates that are in it. */
  addPart(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void;
}

/**
 * What one coordinator has of a round: the exact sum of its updates, and their bytes where the strategy must see each of them or the task
 * retains them.
 */
export class RoundSum implements FoldedSum {
  readonly #config: TaskConfig;
  readonly #strategy: Strategy;
  readonly #grid: GridSpec;
  readonly #format: UpdateFormat;
  readonly #parameters: number;
  readonly #shape: UpdateShape;
  readonly length: number;
  /** Judges every update, and is the mean where the strategy has no rule of its own. */
  readonly #sum: ExactSum;
  readonly #spool: RoundSpool | undefined;
  #counted = new Map<string, Counted>();
  /** By update id, where updates are retained. */
  #headers = new Map<string, UpdateHeader>();

  constructor(config: TaskConfig, { task, strategy, grid, parameters, spoolDir }: RoundParts) {
    this.#config = config;
    this.#strategy = strategy;
    this.#grid = grid;
    this.#format = formatOf(config);
    this.#parameters = parameters;
    this.#shape = localMethodOf(strategy.instruct(config.plan)).shape;
    this.length = sentLength(this.#format, packedLength(this.#shape, parameters, grid));
    this.#sum = new ExactSum(this.length, grid);
    if (strategy.robust !== undefined || config.retainUpdates > 0) {
      // Names that differ only in case are one file on some systems.
      const path = join(spoolDir, `${Buffer.from(task).toString('hex')}.updates`);
      this.#spool = new RoundSpool(path);
    }
  }

  get seesEach(): boolean {
    return this.#spool !== undefined;
  }

  get format(): UpdateFormat {
    return this.#format;
  }

  get counted(): ReadonlyMap<string, Counted> {
    return this.#counted;
  }

  weigh({ weight, baseVersion }: UpdateHeader, version: number): number {
    return this.#strategy.weigh(Number(weight), this.#config.weightMax, version - Number(baseVersion));
  }

  async fold(header: UpdateHeader, payload: Uint8Array, counted: Counted): Promise<UpdateFault | undefined> {
    const id = hex(header.updateId);
    const raw = inflated(header, payload);
    const fault = raw === undefined ? 'wrong-size' : await this.#fold(id, raw, counted, payload);
    if (fault === undefined && this.#config.retainUpdates > 0) this.#headers.set(id, header);
    return fault;
  }

  /** `sent` is what came over the wire, `raw` what that was before it was compressed. */
  async #fold(id: string, raw: Uint8Array, counted: Counted, sent: Uint8Array): Promise<UpdateFault | undefined> {
    const fault = this.#sum.add(this.#format.encoding, raw, counted.weight);
    if (fault !== undefined) return fault;
    // Rules read ranges of values, and audits want what the agent signed for.
    const isRead = this.#strategy.robust !== undefined;
    if (isRead) await this.#spool?.append(id, raw);
    const isThere = isRead && sent === raw;
    if (this.#config.retainUpdates > 0 && !isThere) await this.#spool?.append(sentName(id), sent);
    this.#counted.set(id, counted);
    return undefined;
  }

  /** What goes into the rows that replicas share of an update that must be there in the end: its header only where it is retained. */
  toRow(header: UpdateHeader, payload: Uint8Array): Uint8Array {
    if (this.#config.retainUpdates === 0) return rawOf(header, payload);
    return toBinary(SubmitUpdateRequestSchema, create(SubmitUpdateRequestSchema, { header, data: payload }));
  }

  async foldRow(updateId: string, row: Uint8Array, counted: Counted): Promise<void> {
    const { header, data } =
      this.#config.retainUpdates === 0 ? { data: row } : fromBinary(SubmitUpdateRequestSchema, row);
    const fault = await (header === undefined
      ? this.#fold(updateId, data, counted, data)
      : this.fold(header, data, counted));
    invariant(fault === undefined, 'what a replica took is an update');
  }

  /** The updates as they are kept with the version that is made of them; undefined where they are not. */
  retained(updateIds: Iterable<string>): Commit['retained'] {
    const { retainUpdates: versions } = this.#config;
    if (versions === 0) return undefined;
    const updates = [...updateIds].sort().map((id) => {
      const header = this.#headers.get(id);
      invariant(header !== undefined, 'accepted updates have a header');
      return {
        updateId: header.updateId,
        header: toBinary(UpdateHeaderSchema, header),
        payload: () => this.#spooled(id, header),
      };
    });
    return { updates, versions };
  }

  #spooled(id: string, { payloadDigest }: UpdateHeader): Uint8Array {
    invariant(this.#spool !== undefined, 'retained updates are spooled');
    const payload = this.#spool.read(this.#spool.round.payloads.has(sentName(id)) ? sentName(id) : id);
    // The spool is not synced and not checked: nothing is kept for audits that is not what the agent sent.
    if (equalBytes(createHash('sha256').update(payload).digest(), payloadDigest)) return payload;
    throw new StoreError(`update ${id} is damaged in the spool: the round is asked for again`);
  }

  takeOut(header: UpdateHeader, payload: Uint8Array): void {
    const id = hex(header.updateId);
    const counted = this.#counted.get(id);
    invariant(counted !== undefined, 'only what is in a sum is taken out');
    this.#sum.remove(this.#format.encoding, rawOf(header, payload), counted.weight);
    this.#counted.delete(id);
    this.#headers.delete(id);
  }

  toBytes(): Uint8Array {
    return this.#sum.toBytes();
  }

  resume(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void {
    this.reset();
    this.add(part);
    this.#counted = new Map(counted);
  }

  add(part: Uint8Array): void {
    this.#sum.merge(ExactSum.fromBytes(part));
  }

  addPart(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void {
    this.add(part);
    for (const [id, { weight, metrics }] of counted) this.#counted.set(id, { weight, metrics });
  }

  reset(): void {
    this.#sum.reset();
    this.#spool?.clear();
    this.#counted = new Map();
    this.#headers = new Map();
  }

  /**
   * What a round's updates make of the base, and how much each counts in it: 0 where the rule left it out. Parts of others are in the
   * sum already, and payloads of others in the spool.
   */
  async combine(
    counted: ReadonlyMap<string, Counted & { agentId?: string }>,
    base: Base,
    /** The agent whose update is the measure of the others, where the rule has one. */
    root?: string,
  ): Promise<{ improvement: Improvement; rounding?: Rounding | undefined; weights: ReadonlyMap<string, number> }> {
    const { improvement, weights } = await this.#improved(counted, base, root);
    const published = publishedVersion(base, improvement.weights, this.#config.downlink);
    const { step, remainder } = published;
    const rounding = step === undefined ? undefined : { step: encodeStep(step), remainder };
    return { improvement: { ...improvement, weights: published.weights }, rounding, weights };
  }

  async #improved(
    counted: ReadonlyMap<string, Counted & { agentId?: string }>,
    base: Base,
    root?: string,
  ): Promise<{ improvement: Improvement; weights: ReadonlyMap<string, number> }> {
    // Sorted by id, so that the order of arrival cannot show.
    const sorted = [...counted].sort(([a], [b]) => (a < b ? -1 : 1));
    const weights = sorted.map(([id, { weight }]) => [id, weight] as const);
    if (this.#spool === undefined || this.#strategy.robust === undefined) {
      const total = weights.reduce((sum, [, weight]) => sum + weight, 0);
      invariant(total === this.#sum.totalWeight, 'a sum has the updates of its list and no others');
      const kind = { shape: this.#shape, format: this.#format };
      return { improvement: improvedBySum(this.#strategy, base, this.#sum, kind), weights: new Map(weights) };
    }
    const { path, payloads } = this.#spool.round;
    const updates = weights.map(([id, weight]) => {
      const payload = payloads.get(id);
      invariant(payload !== undefined, 'accepted updates are in the spool');
      return { ...payload, weight };
    });
    const { strategy } = this.#config;
    const own = loadedStrategy(strategy.name);
    const rootAt = this.#strategy.robust.needsRoot === true ? sorted.findIndex(([, one]) => one.agentId === root) : -1;
    invariant(this.#strategy.robust.needsRoot !== true || rootAt >= 0, 'who the others are judged by is among them');
    const aggregate = await runRule({
      path,
      ...(rootAt < 0 ? {} : { root: rootAt }),
      ...(own === undefined ? {} : { own }),
      strategy,
      encoding: this.#format.encoding,
      grid: this.#grid,
      length: this.#parameters,
      updates,
      memory: base.memory,
    });
    const counts = weights.map(([id, weight], i) => [id, aggregate.kept?.includes(i) === false ? 0 : weight] as const);
    const total = updates.reduce((sum, { weight }) => sum + weight, 0);
    const improvement = improvedByRule(this.#strategy, base, aggregate, { updates: updates.length, weight: total });
    return { improvement, weights: new Map(counts) };
  }

  /** Removes what is on the disk. Throws StoreError. */
  async close(): Promise<void> {
    this.#spool?.clear();
    await this.#spool?.settled();
  }
}

/** What an update that was folded was before it was compressed. */
function rawOf(header: UpdateHeader, payload: Uint8Array): Uint8Array {
  const raw = inflated(header, payload);
  invariant(raw !== undefined, 'what was folded could be inflated');
  return raw;
}

/** In the spool a payload as it was sent stands beside its values. */
const sentName = (id: string): string => `${id} as sent`;

/** The version that a round improves. */
export type Base = Pick<OpenVersion, 'weights' | 'memory' | 'remainder'>;

/**
 * What of a version a task goes on from: another task's memory, of another strategy perhaps, would be no help; what rounding left was learned
 * all the same.
 */
export const ofTask = ({ manifest, weights, memory, remainder }: OpenVersion, task: string): Base =>
  manifest.task === task ? { weights, memory, remainder } : { weights, memory: [], remainder };

interface RoundParts {
  task: string;
  strategy: Strategy;
  grid: GridSpec;
  /** Of the model. */
  parameters: number;
  /** Folder for what robust rules read. */
  spoolDir: string;
}

/** Weighted means of what the agents of a round reported. */
export const meansOf = (counted: ReadonlyMap<string, Counted>): Record<string, number> =>
  metricMeans([...counted].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one));
