import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gridOf, type TaskConfig } from '@commonweight/coordinator';
import {
  ConfigError,
  decodeUpdate,
  encodeStep,
  encodeUpdate,
  ExactSum,
  formatOf,
  improvedByRule,
  improvedBySum,
  localLayers,
  localMethodOf,
  layoutOf,
  packedLength,
  payloadBlocks,
  readModel,
  publishedVersion,
  seeded,
  sentLength,
  splitModel,
  strategyFrom,
  weightsFromBytes,
  type GridSpec,
  type Improvement,
  type ModelProto,
  type RandomStream,
  type Strategy,
  type TrainingPlan,
  type UpdateFormat,
  type UpdateShape,
} from '@commonweight/core';
import { dealOut, labelsOf, type Dataset, type Evaluation } from '@commonweight/edge-agent';
import { sharedBytes, sharedData } from './shared-data.ts';
import { formatToWire, gridToWire } from '@commonweight/proto';
import { readFile } from 'node:fs/promises';
import { attacks } from './attacks.ts';
import { fetched, noDownloads } from './downloads.ts';
import { Journal, type Standing } from './journal.ts';
import type { ClientResult } from './messages.ts';
import { ClientPool } from './pool.ts';
import type { RoundRecord } from './records.ts';
import { cohortOf, ROOT_EXAMPLES, taskOf, type Settings } from './settings.ts';

/** Held-out examples that one thread measures in one go. */
const MEASURED_TOGETHER = 500;

export interface SimulationInput {
  settings: Settings;
  model: ModelProto;
  /** An ONNX file that the clients learn from, where the plan has a distillation. */
  teacher?: Uint8Array;
  train: Dataset;
  test: Dataset;
  /** Examples of each client, where they are not dealt out by the settings. */
  parts?: readonly Int32Array[];
  /** Folder of state and results; a temporary one without it. */
  out?: string;
  threads?: number;
  signal?: AbortSignal;
  onRound?: (record: RoundRecord, rounds: number) => void;
  /** A client of the running round is done. */
  onClient?: ((round: number, done: number, of: number) => void) | undefined;
}

export interface SimulationResults {
  settings: Settings;
  /** Name of the strategy, with the digest of its file where it is a user's own. */
  strategy: string;
  parameters: number;
  rounds: readonly RoundRecord[];
  finalAccuracy: number | null;
  bestAccuracy: number | null;
  /** Mean accuracy of the clients' own models on examples like their own, where the task has such. */
  personalAccuracy: number | null;
  /** Whether all rounds were run. */
  complete: boolean;
}

/** Runs rounds in one process: agents' and coordinator's arithmetic without session, link and store. */
export async function runSimulation(
  input: SimulationInput,
): Promise<{ results: SimulationResults; weights: Float32Array }> {
  const own = input.out ?? (await mkdtemp(join(tmpdir(), 'commonweight-simulate-')));
  try {
    return await new Simulation(input, await Journal.open(own, input.settings)).run();
  } finally {
    if (input.out === undefined) await rm(own, { recursive: true, force: true });
  }
}

/** An update of the round, as the coordinator would see it. */
interface Sent extends ClientResult {
  client: number;
}

class Simulation {
  readonly #input: SimulationInput;
  readonly #settings: Settings;
  readonly #journal: Journal;
  readonly #task: TaskConfig;
  readonly #strategy: Strategy;
  readonly #plan: TrainingPlan;
  readonly #grid: GridSpec;
  readonly #shape: UpdateShape;
  readonly #format: UpdateFormat;
  readonly #random: RandomStream;
  readonly #parts: readonly Int32Array[];
  readonly #attackers: ReadonlySet<number>;
  /** The evaluator that the others are judged by, numbered after the clients. */
  readonly #root: number | undefined;
  readonly #graph: Uint8Array;
  readonly #first: Float32Array;

  constructor(input: SimulationInput, journal: Journal) {
    const { settings, train, model } = input;
    this.#input = input;
    this.#settings = settings;
    this.#journal = journal;
    this.#task = taskOf(settings);
    this.#strategy = strategyFrom(this.#task.strategy);
    this.#plan = this.#strategy.instruct(this.#task.plan);
    this.#grid = gridOf(this.#task);
    this.#shape = localMethodOf(this.#plan).shape;
    this.#format = formatOf(this.#task);
    this.#random = seeded(settings.seed).fork('simulation');
    const dealing = { ...settings.split, parts: settings.clients, seed: settings.seed };
    const parts = input.parts ?? dealOut(labelsOf(train), train.examples, dealing).map((part) => Int32Array.from(part));
    this.#root = this.#strategy.robust?.needsRoot === true ? settings.clients : undefined;
    this.#parts = this.#root === undefined ? parts : [...parts, this.#rootPart(parts)];
    if (settings.attack?.name === 'label-flip' && labelsOf(train) === undefined) {
      throw new ConfigError(
        'label-flip turns classes around, and the labels are none: choose another attack',
        'attack',
      );
    }
    const hostile = Math.round((settings.attack?.share ?? 0) * settings.clients);
    const clients = Array.from({ length: settings.clients }, (_, client) => client);
    this.#attackers = new Set(this.#random.fork('attackers').shuffle(clients).slice(0, hostile));
    const { graph, weights } = splitModel(model);
    this.#graph = graph;
    this.#first = weights;
  }

  #rootPart(parts: readonly Int32Array[]): Int32Array {
    const all = parts.flatMap((part) => [...part]);
    const drawn = this.#random.fork('root').shuffle(all);
    return Int32Array.from(drawn.slice(0, this.#settings.rootExamples ?? ROOT_EXAMPLES));
  }

  async run(): Promise<{ results: SimulationResults; weights: Float32Array }> {
    const { train, test, threads, signal } = this.#input;
    const pool = new ClientPool(
      {
        graph: sharedBytes(this.#graph),
        train: sharedData(train),
        test: sharedData(test),
        parts: this.#parts,
        flipped: this.#settings.attack?.name === 'label-flip' ? [...this.#attackers] : [],
        plan: this.#plan,
        ...(this.#input.teacher === undefined ? {} : { teacher: sharedBytes(this.#input.teacher) }),
      },
      threads,
    );
    const stop = (): void => void pool.close();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      let standing = (await this.#journal.load()) ?? this.#beginning();
      while (standing.round < this.#settings.rounds && signal?.aborted !== true) {
        const next = await this.#round(pool, standing).catch((error: unknown) => {
          if (signal?.aborted === true) return undefined;
          throw error;
        });
        if (next === undefined) break;
        standing = next;
        await this.#journal.save(standing);
        const record = standing.records.at(-1);
        if (record !== undefined) this.#input.onRound?.(record, this.#settings.rounds);
      }
      const complete = standing.round >= this.#settings.rounds;
      const results = await this.#results(standing, complete, complete ? pool : undefined);
      await this.#journal.finish(results);
      return { results, weights: standing.weights };
    } finally {
      signal?.removeEventListener('abort', stop);
      await pool.close();
    }
  }

  #beginning(): Standing {
    return { round: 0, weights: this.#first, memory: [], downloads: noDownloads, kept: {}, records: [] };
  }

  async #round(pool: ClientPool, before: Standing): Promise<Standing> {
    const startMs = performance.now();
    const round = before.round + 1;
    const everybody = Array.from({ length: this.#settings.clients }, (_, client) => client);
    const cohort = this.#random
      .fork(`cohort ${round}`)
      .shuffle(everybody)
      .slice(0, cohortOf(this.#settings))
      .sort((a, b) => a - b);
    const { bytes: downloadBytes, downloads } = fetched(before.downloads, cohort, round, 4 * before.weights.length);
    const all = await this.#collect(pool, before, round, this.#root === undefined ? cohort : [...cohort, this.#root]);
    const [sent, roots] = [all.filter(({ client }) => client !== this.#root), all.slice(cohort.length)];
    const combined = this.#combine(before, [...this.#attacked(sent, round), ...roots]);
    const { improvement: wanted, weights, refused, leftOut } = combined;
    const { stepBytes, ...improvement } = this.#rounded(before, wanted);
    const kept = { ...before.kept };
    for (const { client, kept: files } of all) {
      kept[client] = Object.fromEntries(Object.entries(files).map(([name, file]) => [name, basename(file)]));
    }
    const isMeasured = round % this.#settings.evaluateEvery === 0 || round === this.#settings.rounds;
    const measured = isMeasured ? await this.#measure(pool, improvement.weights) : undefined;
    const honest = sent.filter(({ client }) => !this.#attackers.has(client));
    const record: RoundRecord = {
      round,
      accuracy: accuracyOf(measured),
      testLoss: measured === undefined ? null : measured.lossSum / measured.examples,
      loss: honest.reduce((sum, { loss }) => sum + loss, 0) / Math.max(1, honest.length),
      updates: sent.length - refused,
      refused,
      leftOut,
      attackers: sent.length - honest.length,
      steps: sent.reduce((sum, { steps }) => sum + steps, 0),
      totalWeight: weights.reduce((sum, weight) => sum + weight, 0),
      payloadBytes: sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
      downloadBytes,
      seconds: Number(((performance.now() - startMs) / 1000).toFixed(3)),
    };
    const steps = [...downloads.steps, stepBytes];
    return {
      round,
      ...improvement,
      downloads: { ...downloads, steps },
      kept,
      records: [...before.records, record],
    };
  }

  /** The next version as it is published, and the bytes of the step to it; 0 where it travels whole. */
  #rounded(
    before: Standing,
    { weights, memory }: Improvement,
  ): Improvement & { remainder: Float32Array | undefined; stepBytes: number } {
    const { step, ...published } = publishedVersion(before, weights, this.#task.downlink);
    const { remainder } = published;
    return {
      weights: published.weights,
      memory,
      remainder,
      stepBytes: step === undefined ? 0 : encodeStep(step).length,
    };
  }

  /** What the clients of a round send, in their order. */
  async #collect(pool: ClientPool, before: Standing, round: number, cohort: readonly number[]): Promise<Sent[]> {
    const { memory, weights: base, kept } = before;
    const planJson = JSON.stringify(this.#plan);
    let done = 0;
    return Promise.all(
      cohort.map(async (client) => {
        const seed = this.#random.fork(`client ${client} in ${round}`);
        const assignment = {
          task: 'simulation',
          round: BigInt(round),
          planJson,
          invitation: new Uint8Array(),
          ...formatToWire(this.#format),
          grid: gridToWire(this.#grid),
          seed: (BigInt(seed.bits()) << 32n) | BigInt(seed.bits()),
        };
        const files = Object.entries(kept[client] ?? {});
        const result = await pool.play({
          client,
          agentId: `client-${client}`,
          assignment,
          baseVersion: round,
          base,
          memory: localMethodOf(this.#plan).needsMemory === true ? memory : [],
          kept: Object.fromEntries(files.map(([name, file]) => [name, this.#journal.clientFile(file)])),
          keepAs: this.#journal.clientFile(`${client}.${round}`),
        });
        this.#input.onClient?.(round, ++done, cohort.length);
        return { ...result, client };
      }),
    );
  }

  /** Values of an update. */
  get #length(): number {
    return packedLength(this.#shape, this.#first.length, this.#grid);
  }

  /** The same updates, those of attackers forged. */
  #attacked(sent: readonly Sent[], round: number): readonly Sent[] {
    const { attack } = this.#settings;
    const hostile = sent.filter(({ client }) => this.#attackers.has(client));
    if (attack === undefined || attack.name === 'label-flip' || hostile.length === 0) return sent;
    const { forge, scale } = attacks[attack.name];
    const values = ({ payload }: Sent): Float32Array => decodeUpdate(payload, this.#format, this.#length, this.#grid);
    const deltaOf = (whole: Float32Array): Float32Array => whole.slice(0, this.#first.length);
    const honest = sent.filter((one) => !hostile.includes(one)).map((one) => deltaOf(values(one)));
    return sent.map((one) => {
      if (!hostile.includes(one)) return one;
      const random = this.#random.fork(`attack of ${one.client} in ${round}`);
      const whole = values(one);
      const site = { own: deltaOf(whole), honest, clients: sent.length, attackers: hostile.length, random };
      // What an update carries besides its delta stays as it was trained.
      whole.set(forge(site, attack.scale ?? scale));
      return { ...one, payload: encodeUpdate(whole, this.#format, this.#grid, random) };
    });
  }

  /** As the coordinator's driver does it at the close of a round. */
  #combine(
    before: Standing,
    sent: readonly Sent[],
  ): { improvement: Improvement; weights: number[]; refused: number; leftOut: number } {
    const { robust } = this.#strategy;
    const sum = new ExactSum(sentLength(this.#format, this.#length), this.#grid);
    const accepted = sent.flatMap((one) => {
      const weight = this.#strategy.weigh(one.examples, this.#task.weightMax);
      return sum.add(this.#format.encoding, one.payload, weight) === undefined ? [{ ...one, weight }] : [];
    });
    const refused = sent.length - accepted.length;
    const clients = accepted.filter(({ client }) => client !== this.#root);
    const isJudged = this.#root === undefined || clients.length < accepted.length;
    // A round of which every update is refused is abandoned, and one without that of its evaluator.
    if (clients.length === 0 || !isJudged) return { improvement: before, weights: [], refused, leftOut: 0 };
    if (robust === undefined) {
      const kind = { shape: this.#shape, format: this.#format };
      const improvement = improvedBySum(this.#strategy, before, sum, kind);
      return { improvement, weights: accepted.map(({ weight }) => weight), refused, leftOut: 0 };
    }
    const ordered = accepted.toSorted((a, b) => Buffer.compare(a.updateId, b.updateId));
    const root = ordered.findIndex(({ client }) => client === this.#root);
    const updates = payloadBlocks({
      ...(root < 0 ? {} : { root }),
      encoding: this.#format.encoding,
      grid: this.#grid,
      length: this.#first.length,
      updates: ordered.map(({ payload, weight }) => ({
        bytes: payload.length,
        weight,
        read: (into, offset) => into.set(payload.subarray(offset, offset + into.length)),
      })),
    });
    const aggregate = robust.rule(updates, before.memory);
    const weight = ordered.reduce((total, one) => total + one.weight, 0);
    const kept = ordered.filter((_, i) => aggregate.kept?.includes(i) !== false);
    return {
      improvement: improvedByRule(this.#strategy, before, aggregate, { updates: clients.length, weight }),
      weights: kept.map(({ weight }) => weight),
      refused,
      leftOut: clients.length - kept.length,
    };
  }

  /** A version on all examples that are held out, in parts that do not depend on the number of threads: sums have one order. */
  async #measure(pool: ClientPool, weights: Float32Array): Promise<Evaluation> {
    const all = Int32Array.from({ length: this.#input.test.examples }, (_, i) => i);
    const parts = Array.from({ length: Math.ceil(all.length / MEASURED_TOGETHER) }, (_, i) =>
      all.slice(i * MEASURED_TOGETHER, (i + 1) * MEASURED_TOGETHER),
    );
    const measured = await Promise.all(parts.map((examples) => pool.evaluate({ weights, examples })));
    return measured.reduce(total);
  }

  async #results(standing: Standing, complete: boolean, pool: ClientPool | undefined): Promise<SimulationResults> {
    const accuracies = standing.records.flatMap(({ accuracy }) => accuracy ?? []);
    return {
      settings: this.#settings,
      strategy: this.#strategy.name,
      parameters: this.#first.length,
      rounds: standing.records,
      finalAccuracy: accuracies.at(-1) ?? null,
      bestAccuracy: accuracies.length === 0 ? null : Math.max(...accuracies),
      personalAccuracy: pool === undefined ? null : await this.#measureOwn(pool, standing),
      complete,
    };
  }

  /** Each client's own model on held-out examples that are dealt out as the clients' are; null where clients have no such models. */
  async #measureOwn(pool: ClientPool, { weights, kept }: Standing): Promise<number | null> {
    const layers = localLayers(layoutOf(readModel(this.#graph)), this.#plan.localLayers);
    const { clients, split, seed } = this.#settings;
    const { examples: count } = this.#input.test;
    const labels = labelsOf(this.#input.test);
    const isPersonal = layers.length > 0 || localMethodOf(this.#plan).personal !== undefined;
    if (!isPersonal || count < 10 * clients) return null;
    const parts = dealOut(labels, count, { ...split, parts: clients, seed });
    const measured = await Promise.all(
      Object.entries(kept).flatMap(([client, files]) => {
        const examples = Int32Array.from(parts[Number(client)] ?? []);
        return this.#attackers.has(Number(client)) || Number(client) === this.#root
          ? []
          : [this.#ownModel(files, weights).then((own) => pool.evaluate({ weights: own, examples }))];
      }),
    );
    return measured.length === 0 ? null : accuracyOf(measured.reduce(total));
  }

  async #ownModel(files: Readonly<Record<string, string>>, common: Float32Array): Promise<Float32Array> {
    const read = async (name: string): Promise<Float32Array> =>
      weightsFromBytes(await readFile(this.#journal.clientFile(name)));
    if (files['personal'] !== undefined) return read(files['personal']);
    const layers = localLayers(layoutOf(readModel(this.#graph)), this.#plan.localLayers);
    return files['layers'] === undefined ? common : layers.put(common, await read(files['layers']));
  }
}

const total = (a: Evaluation, b: Evaluation): Evaluation => ({
  examples: a.examples + b.examples,
  correct: a.correct === undefined || b.correct === undefined ? undefined : a.correct + b.correct,
  lossSum: a.lossSum + b.lossSum,
});

const accuracyOf = (measured: Evaluation | undefined): number | null =>
  measured?.correct === undefined ? null : measured.correct / measured.examples;
