/** Float32 against its quantized forms: latency on one thread, size, and accuracy on real digits. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  calibrationGraph,
  Calibrator,
  fedAvgCnn,
  logistic,
  mlp,
  quantizeModel,
  writeModel,
  type ModelProto,
  type QuantizedForm,
} from '@commonweight/core';
import { arrayDataset, loadDataset, type Dataset } from '@commonweight/edge-agent';
import * as ort from 'onnxruntime-node';
import { accuracyOf, examplesOf, openSession, outputsOf, trainedOn } from '../support/digit-models.ts';
import { transformer } from '../support/transformer.ts';
import { run as runServe } from './serve.ts';

const TURNS = 40;
const RUNS_PER_TURN = 20;
/** Runs of a turn that bring the weights back into the caches. */
const WARM_UP = 3;
const CALIBRATION = 256;

interface Subject {
  model: ModelProto;
  dims: readonly number[];
  /** The form that the figure is of, and others for comparison. */
  form: QuantizedForm;
  others: readonly QuantizedForm[];
}

export async function run(): Promise<Record<string, number | null>> {
  const [train, test] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  const subjects: Record<string, Subject> = {
    mlp: {
      model: await trainedOn(train, mlp({ inputs: 784, hidden: [1024, 1024], outputs: 10, seed: 1 }), 360),
      dims: [784],
      form: 'dynamic-int8',
      others: ['static-int8', 'int8-blocks', 'int4-blocks', 'fp16'],
    },
    cnn: {
      model: await trainedOn(train, fedAvgCnn(1), 180),
      dims: [1, 28, 28],
      form: 'static-int8',
      others: ['dynamic-int8', 'int8-blocks', 'int4-blocks', 'fp16'],
    },
    transformer: {
      model: await trainedTransformer(train),
      dims: [28, 28],
      form: 'dynamic-int8',
      others: ['static-int8', 'int8-blocks', 'int4-blocks', 'fp16'],
    },
  };
  const figures: Record<string, number | null> = {};
  for (const [name, subject] of Object.entries(subjects))
    Object.assign(figures, await figuresOf(name, subject, train, test));
  const { serving_overhead = null, rps_c64 = null } = await runServe({}, ['mlp']);
  return { ...figures, ...(await largeFigures()), serving_overhead, rps_c64 };
}

async function figuresOf(
  name: string,
  { model, dims, form, others }: Subject,
  train: Dataset,
  test: Dataset,
): Promise<Record<string, number>> {
  const ranges = await rangesOf(model, dims, train);
  const forms = [form, ...others];
  const models = [model, ...forms.map((one) => quantizeModel(model, one, { ranges }).model)];
  const { inputs, labels } = examplesOf(test, 0, test.examples);
  const times = await latencies(models, inputs.slice(0, 784), [1, ...dims]);
  const accuracies: number[] = [];
  for (const one of models) {
    const logits = (await outputsOf(one, inputs.slice(), [test.examples, ...dims])).get('logits')!;
    accuracies.push(accuracyOf(logits, labels));
  }
  const sizes = models.map((one) => writeModel(one).length);
  const median = (index: number): number => quantile(times[index]!, 0.5);
  return {
    [`speedup_int8_${name}`]: median(0) / median(1),
    [`accuracy_drop_points_${name}`]: (accuracies[0]! - accuracies[1]!) * 100,
    [`size_ratio_int8_${name}`]: sizes[0]! / sizes[1]!,
    [`p50_ms_float32_${name}`]: median(0),
    [`p99_ms_float32_${name}`]: quantile(times[0]!, 0.99),
    [`p50_ms_int8_${name}`]: median(1),
    [`p99_ms_int8_${name}`]: quantile(times[1]!, 0.99),
    [`accuracy_float32_${name}`]: accuracies[0]!,
    ...Object.fromEntries(
      others.flatMap((other, index) => {
        const key = `${other.replaceAll('-', '_')}_${name}`;
        return [
          [`speedup_${key}`, median(0) / median(index + 2)],
          [`drop_points_${key}`, (accuracies[0]! - accuracies[index + 2]!) * 100],
          [`size_ratio_${key}`, sizes[0]! / sizes[index + 2]!],
        ];
      }),
    ),
  };
}

async function rangesOf(model: ModelProto, dims: readonly number[], train: Dataset) {
  const { model: graph, values } = calibrationGraph(model);
  const calibrator = new Calibrator(values);
  const { inputs } = examplesOf(train, 0, CALIBRATION);
  calibrator.add(new Map([...(await outputsOf(graph, inputs.slice(), [CALIBRATION, ...dims])), ['input', inputs]]));
  return calibrator.ranges();
}

/**
 * Milliseconds of each run of each model. They take turns of a few runs, so that a change of the machine's speed meets
 * all alike, while the weights are in the caches as they are when an app asks again and again.
 */
async function latencies(
  models: readonly ModelProto[],
  input: Float32Array,
  dims: readonly number[],
): Promise<number[][]> {
  const sessions: ort.InferenceSession[] = [];
  for (const model of models) sessions.push(await openSession(model));
  const times = sessions.map((): number[] => []);
  const feeds = { input: new ort.Tensor('float32', input, dims) };
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [index, session] of sessions.entries()) {
      for (let run = 0; run < WARM_UP + RUNS_PER_TURN; run++) {
        const startMs = performance.now();
        await session.run(feeds);
        if (run >= WARM_UP) times[index]!.push(performance.now() - startMs);
      }
    }
  }
  for (const session of sessions) await session.release();
  return times;
}

/** Random features of 28 rows of pixels, and a trained head on them. */
async function trainedTransformer(train: Dataset): Promise<ModelProto> {
  const [tokens, width] = [28, 256];
  const encoder = transformer({ tokens, tokenSize: 28, width, heads: 4, layers: 3, seed: 1 });
  const examples = 2000;
  const { inputs, labels } = examplesOf(train, 0, examples);
  const features = (await outputsOf(encoder, inputs, [examples, 28, 28])).get('features')!;
  const data = arrayDataset('features', { values: features, shape: [tokens * width], labels });
  const head = await trainedOn(data, logistic({ inputs: tokens * width, outputs: 10, seed: 1 }), 1600, 5e-4);
  const headNodes = head.graph!.node.map((node) => ({
    ...node,
    input: node.input.map((name) => (name === 'input' ? 'features' : name)),
  }));
  return {
    ...encoder,
    graph: {
      ...encoder.graph!,
      node: [...encoder.graph!.node, ...headNodes],
      initializer: [...encoder.graph!.initializer, ...head.graph!.initializer],
      output: head.graph!.output,
    },
  };
}

async function largeFigures(): Promise<Record<string, number | null>> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-bench-'));
  try {
    const file = join(folder, 'large.onnx');
    const hidden = new Array<number>(5).fill(2180);
    await writeFile(file, writeModel(mlp({ inputs: 2180, hidden, outputs: 2180, seed: 1 })));
    const flags = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
    const child = join(import.meta.dirname, 'quantize-large.ts');
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, child, file]);
    const { seconds, peakRatio } = JSON.parse(stdout) as { seconds: number; peakRatio: number | null };
    return { quantize_s_100mb: seconds, quantize_peak_memory_ratio_100mb: peakRatio };
  } finally {
    await rm(folder, { recursive: true });
  }
}

function quantile(times: readonly number[], share: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor((times.length - 1) * share)]!;
}
