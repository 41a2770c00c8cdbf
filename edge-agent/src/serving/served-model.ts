/** One live model behind the protocol: what is asked is held against its contract, then batched and run by the SDK. */
import { ExplainError, InputError, type Contract, type Model, type Tensor } from '@commonweight/client-sdk';
import { ConfigError, type TensorSpec } from '@commonweight/core';
import { Batcher, type BatcherOptions } from './batching/batcher.ts';
import { rowIndependence, type Independence } from './batching/row-independence.ts';
import type { ServingEvent } from './events.ts';
import { quoted, ServingError } from './errors.ts';
import { checkTable, tableInput, weighColumns, type Patience } from './importance.ts';
import { EXPLAINED_ROWS_MAX, EXPLANATIONS_MAX } from './limits.ts';
import type { Metrics } from './metrics.ts';
import { datatype, datatypeOf, showSpec } from './protocol/datatypes.ts';
import type { ExplainAnswer, ExplainRequest, ImportanceAnswer, ImportanceRequest } from './protocol/explain.ts';
import type { InferAnswer, InferRequest, NamedTensor } from './protocol/request.ts';

/** How a model describes itself in the protocol. */
export interface ModelMetadata {
  name: string;
  versions: string[];
  platform: string;
  inputs: TensorMetadata[];
  outputs: TensorMetadata[];
}

interface TensorMetadata {
  name: string;
  datatype: string;
  shape: number[];
}

/** What runs the models, as KServe and Triton name it. */
const PLATFORM = 'onnxruntime_onnx';

export class ServedModel {
  readonly name: string;
  readonly #model: Model;
  readonly #metrics: Metrics;
  readonly #batcher: Batcher;
  readonly #tell: (event: ServingEvent) => void;
  readonly #off: (() => void)[];
  /** Explanations that are under way. */
  #explaining = 0;
  /** What was found out about batches, and of which version. */
  #independence: { version: number; found: Independence } | undefined;

  constructor(model: Model, options: BatcherOptions, metrics: Metrics, tell: (event: ServingEvent) => void) {
    this.name = model.name;
    this.#model = model;
    this.#metrics = metrics;
    this.#tell = tell;
    this.#batcher = new Batcher({
      model: model.name,
      options,
      predict: (inputs) => model.predict(inputs),
      isBatchable: () => options.batchMax > 1 && this.batching.isBatchable,
      check: (version) => this.#requireVersion(version === undefined ? '' : String(version)),
      onRun: (rows) => metrics.run(model.name, rows),
    });
    this.#off = [
      model.on('version', ({ to, reason }) => {
        tell({
          type: 'version',
          model: model.name,
          version: to,
          variant: model.variant.name,
          engine: model.variant.engine,
          why: model.variant.why,
          reason,
        });
        if (options.batchMax > 1) void this.#findOut(to);
      }),
      model.on('error', ({ message }) => tell({ type: 'error', model: model.name, message })),
    ];
  }

  get version(): number {
    // A model is served once it has a version, and never loses it.
    return this.#model.version ?? 0;
  }

  get contract(): Contract {
    return this.#model.contract ?? { inputs: [], outputs: [] };
  }

  get variant(): Model['variant'] {
    return this.#model.variant;
  }

  get queueLength(): number {
    return this.#batcher.length;
  }

  /** Whether one more request would be refused. */
  get isFull(): boolean {
    return this.#batcher.isFull;
  }

  /** Throws ServingError where it would be. */
  checkRoom(): void {
    this.#batcher.checkRoom();
  }

  /** Whether the version that serves runs on several requests at once; not before that was found out. */
  get batching(): Independence {
    const { version, found } = this.#independence ?? {};
    return found !== undefined && version === this.#model.version
      ? found
      : { isBatchable: false, why: 'it is being found out' };
  }

  /** Throws ServingError where that version is not served. */
  metadata(version: string): ModelMetadata {
    this.#requireVersion(version);
    const show = ({ name, dtype, dims }: TensorSpec): TensorMetadata => ({
      name,
      datatype: datatypeOf(dtype),
      shape: [...dims],
    });
    return {
      name: this.name,
      versions: [String(this.version)],
      platform: PLATFORM,
      inputs: this.contract.inputs.map(show),
      outputs: this.contract.outputs.map(show),
    };
  }

  /** One prediction. Throws ServingError. */
  async infer(request: InferRequest, version: string, signal: AbortSignal): Promise<InferAnswer> {
    this.#requireVersion(version);
    const { contract } = this;
    const inputs = checkedInputs(contract.inputs, request.inputs);
    const wanted = wantedOutputs(contract.outputs, request.outputs);
    const startMs = performance.now();
    const pinned = version === '' ? undefined : Number(version);
    const prediction = await this.#batcher.predict(inputs, pinned, signal);
    this.#metrics.latency(this.name, (performance.now() - startMs) / 1000);
    const outputs = wanted.map(({ name, dtype }): NamedTensor => {
      const tensor = prediction.outputs[name];
      if (tensor === undefined) throw new ServingError('internal', `the model gave no output '${name}'`);
      return { name, datatype: datatypeOf(dtype), shape: tensor.dims, data: tensor.data };
    });
    return { model: this.name, version: prediction.version, id: request.id, outputs };
  }

  /** Which inputs made the answers what they are. Throws ServingError. */
  async explain({ inputs: given, baseline, ...options }: ExplainRequest): Promise<ExplainAnswer> {
    const { inputs: specs } = this.contract;
    const inputs = checkedInputs(specs, given);
    const isBatched = specs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
    const rows = isBatched ? (given[0]?.shape[0] ?? 1) : 1;
    if (rows > EXPLAINED_ROWS_MAX) {
      throw new ServingError('wrong-input', `${rows} examples were sent, at most ${EXPLAINED_ROWS_MAX} are explained`);
    }
    const from = Array.isArray(baseline) ? checkedInputs(specs, baseline) : (baseline as number | undefined);
    return await this.#explained(async () => {
      const explained = await this.#model.explain(inputs, {
        ...options,
        ...(from === undefined ? {} : { baseline: from }),
      });
      return { model: this.name, ...explained };
    });
  }

  /** What the columns of a table are worth. Throws ServingError. */
  async importance({ inputs, ...how }: ImportanceRequest, patience: Patience): Promise<ImportanceAnswer> {
    const spec = tableInput(this.contract);
    const table = checkedInputs([spec], inputs)[spec.name]!;
    checkTable(this.contract, table, how);
    return await this.#explained(async () => {
      const { score: value, ...found } = await weighColumns(this.#model, table, how, patience);
      return { ...found, model: this.name, score: how.score, value, rows: how.labels.length };
    });
  }

  /** One of a few explanations at a time; what is wrong with it in the protocol's words. */
  async #explained<T>(explain: () => Promise<T>): Promise<T> {
    if (this.#explaining >= EXPLANATIONS_MAX) {
      throw new ServingError(
        'queue-full',
        `${EXPLANATIONS_MAX} explanations of '${this.name}' are under way: ask later`,
      );
    }
    this.#explaining += 1;
    try {
      return await explain();
    } catch (error) {
      if (error instanceof InputError || error instanceof ConfigError) {
        throw new ServingError('wrong-input', error.message, { cause: error });
      }
      if (error instanceof ExplainError) throw new ServingError('no-gradient', error.message, { cause: error });
      throw error;
    } finally {
      this.#explaining -= 1;
    }
  }

  close(): void {
    for (const off of this.#off) off();
    this.#batcher.close();
  }

  #requireVersion(version: string): void {
    if (version === '' || version === String(this.#model.version)) return;
    throw new ServingError(
      'unknown-version',
      `version ${quoted(version)} of '${this.name}' is not served; version ${this.version} is: ask for that one, or for none`,
    );
  }

  async #findOut(version: number): Promise<void> {
    const found = await rowIndependence(this.contract, async (inputs) => {
      const prediction = await this.#model.predict(inputs, { isMadeUp: true });
      if (prediction.version !== version) throw new Error(`version ${prediction.version} came`);
      return prediction;
    });
    // A newer version that came meanwhile is looked at by itself.
    if (this.#model.version !== version) return;
    this.#independence = { version, found };
    this.#tell({ type: 'batching', model: this.name, version, ...found });
  }
}

function checkedInputs(specs: readonly TensorSpec[], given: readonly NamedTensor[]): Record<string, Tensor> {
  const extra = given.find(({ name }) => !specs.some((spec) => spec.name === name));
  if (extra !== undefined) {
    const has = specs.map((spec) => `'${spec.name}' ${showSpec(spec)}`).join(', ');
    throw new ServingError('wrong-input', `the model has no input ${quoted(extra.name)}; it has ${has}`);
  }
  return Object.fromEntries(
    specs.map((spec) => {
      const tensor = given.find(({ name }) => name === spec.name);
      if (tensor === undefined)
        throw new ServingError('wrong-input', `input '${spec.name}' is missing: give ${showSpec(spec)}`);
      checkTensor(spec, tensor);
      return [spec.name, { data: tensor.data, dims: tensor.shape }];
    }),
  );
}

function checkTensor(spec: TensorSpec, { datatype: name, shape }: NamedTensor): void {
  const { dtype } = datatype(name, `input '${spec.name}'`);
  if (dtype !== spec.dtype) {
    throw new ServingError(
      'wrong-input',
      `input '${spec.name}' is ${showSpec(spec)}, not ${name}: send it as ${datatypeOf(spec.dtype)}`,
    );
  }
  const fits =
    shape.length === spec.dims.length && shape.every((dim, axis) => spec.dims[axis]! < 0 || spec.dims[axis] === dim);
  if (!fits)
    throw new ServingError('wrong-input', `input '${spec.name}' is ${showSpec(spec)}, not [${shape.join(', ')}]`);
}

function wantedOutputs(specs: readonly TensorSpec[], names: readonly string[]): readonly TensorSpec[] {
  if (names.length === 0) return specs;
  return names.map((name) => {
    const spec = specs.find((known) => known.name === name);
    if (spec !== undefined) return spec;
    throw new ServingError(
      'wrong-output',
      `the model has no output ${quoted(name)}; it has ${specs.map((known) => `'${known.name}'`).join(', ')}`,
    );
  });
}
