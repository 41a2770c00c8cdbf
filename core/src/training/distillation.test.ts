import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { draw, generator } from '../../../test/reference/differences.ts';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { cnn } from '../models/cnn.ts';
import { logistic, mlp } from '../models/mlp.ts';
import { readModel } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { splitModel } from '../onnx/parameters.ts';
import { buildTeacherGraph, distilled, requireTeacher } from './distillation.ts';
import { losses, shares } from './losses.ts';
import type { LossOptions } from './losses.ts';
import { parsePlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';

const softmax = (logits: readonly number[]): number[] => {
  const powers = logits.map((value) => Math.exp(value - Math.max(...logits)));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
};

interface Case {
  student: number[][];
  teacher: number[][];
  labels: number[];
  /** Of the examples. */
  weights: number[];
}

/** The formula of the paper, as it stands: the mean over the examples by their weights. */
function byFormula({ student, teacher, labels, weights }: Case, temperature: number, alpha: number): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return student.reduce((sum, logits, row) => {
    const entropy = -Math.log(softmax(logits)[labels[row]!]!);
    const soft = softmax(logits.map((value) => value / temperature));
    const wanted = softmax(teacher[row]!.map((value) => value / temperature));
    const divergence = wanted.reduce((all, share, at) => all + share * Math.log(share / soft[at]!), 0);
    const loss = alpha * entropy + (1 - alpha) * temperature ** 2 * divergence;
    return sum + (weights[row]! / total) * loss;
  }, 0);
}

/** Loss and gradient as the training graph has them, in float64. */
function written(
  { student, teacher, labels, weights }: Case,
  temperature: number,
  alpha: number,
  options: LossOptions = {},
) {
  const graph = new GraphBuilder('t/');
  const [rows, classes] = [student.length, student[0]!.length];
  const prediction = graph.input('prediction', [rows, classes]);
  const target = graph.input('target', [rows], TensorProto_DataType.INT64);
  const sampleWeights = graph.input('weights', [rows]);
  const site = { graph, prediction, target, weights: shares(graph, sampleWeights), options };
  const objective = distilled(site, losses['cross-entropy'].write(site), { temperature, alpha });
  const values = evaluate(
    graph,
    new Map([
      ['prediction', Float64Array.from(student.flat())],
      [objective.teacher, Float64Array.from(teacher.flat())],
      ['target', Float64Array.from(labels)],
      ['weights', Float64Array.from(weights)],
    ]),
  );
  return { loss: values.get(objective.loss)![0]!, gradient: values.get(objective.gradient)! };
}

const examples = (seed: number): Case => {
  const uniform = generator(seed);
  const [rows, classes] = [1 + Math.floor(uniform() * 4), 2 + Math.floor(uniform() * 4)];
  const logits = (): number[][] =>
    Array.from({ length: rows }, () => [...draw(classes, 'any', uniform)].map((x) => 3 * x));
  return {
    student: logits(),
    teacher: logits(),
    labels: Array.from({ length: rows }, () => Math.floor(uniform() * classes)),
    weights: Array.from({ length: rows }, () => 0.5 + uniform()),
  };
};

const settings = fc.record({
  seed: fc.integer({ min: 0, max: 1e9 }),
  // Halves and powers of two are the same numbers in float32, in which constants of a graph are.
  temperature: fc.constantFrom(0.5, 1, 2, 4, 8),
  alpha: fc.constantFrom(0, 0.125, 0.5, 1),
});

test('the loss is that of Hinton et al., in float64', () => {
  fc.assert(
    fc.property(settings, ({ seed, temperature, alpha }) => {
      const given = examples(seed);
      expect(written(given, temperature, alpha).loss).toBeCloseTo(byFormula(given, temperature, alpha), 9);
    }),
  );
});

test('its gradient is the central difference of the formula', () => {
  fc.assert(
    fc.property(settings, ({ seed, temperature, alpha }) => {
      const given = examples(seed);
      const { gradient } = written(given, temperature, alpha);
      const step = 1e-5;
      const classes = given.student[0]!.length;
      gradient.forEach((slope, place) => {
        const moved = (by: number): number => {
          const student = given.student.map((row, at) =>
            row.map((value, column) => (at * classes + column === place ? value + by : value)),
          );
          return byFormula({ ...given, student }, temperature, alpha);
        };
        expect(slope).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 6);
      });
    }),
  );
});

test('a student that answers as its teacher has nothing to learn from it, whatever the labels', () => {
  const given = examples(3);
  const { loss, gradient } = written({ ...given, student: given.teacher }, 4, 0);
  expect(Math.abs(loss)).toBeLessThan(1e-12);
  expect(Math.max(...gradient.map(Math.abs))).toBeLessThan(1e-12);
});

test('a target that is ignored counts in neither part', () => {
  const given: Case = {
    student: [
      [1, 2],
      [5, -3],
    ],
    teacher: [
      [2, 1],
      [-9, 9],
    ],
    labels: [0, -100],
    weights: [1, 1],
  };
  const { loss, gradient } = written(given, 2, 0.5, { ignoreIndex: -100 });
  const alone = { student: [[1, 2]], teacher: [[2, 1]], labels: [0], weights: [1] };
  expect(loss).toBeCloseTo(byFormula(alone, 2, 0.5), 9);
  expect([...gradient.slice(2)]).toEqual([0, 0]);
});

test('a training graph takes the answers of a teacher graph, whose closing Softmax is left out', async () => {
  const student = readModel(splitModel(logistic({ inputs: 4, outputs: 3, seed: 1 })).graph);
  const plan = parsePlan({
    loss: 'cross-entropy',
    optimizer: { name: 'sgd', learningRate: 0.5 },
    epochs: 1,
    batchSize: 2,
    distillation: { alpha: 0 },
  });
  expect(plan.distillation).toEqual({ temperature: 2, alpha: 0 });
  const training = buildTrainingGraph(student, plan);
  expect(training.teacher).toEqual({ name: 'training/teacher', shape: [2, 3] });
  const teacher = buildTeacherGraph(mlp({ inputs: 4, hidden: [5], outputs: 3, seed: 2 }), 'cross-entropy', 2);
  expect(teacher).toMatchObject({ output: 'logits', shape: [2, 3] });
  const open = (model: Uint8Array): Promise<ort.InferenceSession> =>
    ort.InferenceSession.create(model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const floats = (values: number[], dims: number[]): ort.Tensor =>
    new ort.Tensor('float32', Float32Array.from(values), dims);
  const data = floats([1, -2, 0.5, 3, 0, 1, 2, -1], [2, 4]);
  const weights = floats([1, 1], [2]);
  const asked = await open(teacher.model);
  const answers = (await asked.run({ [teacher.data[0]!.name]: data, [teacher.sampleWeights]: weights }))[
    teacher.output
  ]!;
  const session = await open(training.model);
  let feeds: Record<string, ort.Tensor> = {
    [training.data[0]!.name]: data,
    [training.target.name]: new ort.Tensor('int64', new BigInt64Array(2), [2]),
    [training.sampleWeights]: weights,
    [training.teacher!.name]: answers,
    ...Object.fromEntries(
      training.parameters.map(({ input, shape }) => [
        input,
        floats(new Array(shape.reduce((a, b) => a * b, 1)).fill(0.1), [...shape]),
      ]),
    ),
  };
  const found: number[] = [];
  for (let step = 0; step < 200; step++) {
    const results = await session.run(feeds);
    found.push(Number(results[training.loss]!.data[0]));
    feeds = {
      ...feeds,
      ...Object.fromEntries(training.parameters.map(({ input, output }) => [input, results[output]!])),
    };
  }
  // The labels say nothing here: only the teacher's answers are learnt, and two examples can be learnt whole.
  expect(found[0]).toBeGreaterThan(0.01);
  expect(found.at(-1)).toBeLessThan(1e-4);
});

test('a teacher has to read the same examples, and to answer in the same classes', () => {
  const student = mlp({ inputs: 16, hidden: [5], outputs: 3, seed: 1 });
  const images = { height: 4, width: 4, channels: 1, filters: [2], dense: 4, seed: 1 };
  requireTeacher(student, cnn({ ...images, outputs: 3 }), 'cross-entropy');
  expect(() => requireTeacher(student, cnn({ ...images, outputs: 4 }), 'cross-entropy')).toThrow(
    'the teacher answers with [batch, 4] and the student with [batch, 3]: choose a teacher with the same outputs',
  );
  expect(() => requireTeacher(student, cnn({ ...images, height: 8, outputs: 3 }), 'cross-entropy')).toThrow(
    'the teacher takes float[batch, 1, 8, 4] and the student float[batch, 16]: choose a teacher that reads the same examples',
  );
});

test.each<[unknown, string]>([
  [{ temperature: 0 }, 'distillation.temperature is out of range: 0'],
  [{ alpha: 1.5 }, 'distillation.alpha is out of range: 1.5'],
  [{ teacher: 'x' }, 'distillation.teacher is not known; use temperature, alpha'],
])('a plan with distillation %j is refused', (distillation, words) => {
  const plan = {
    loss: 'cross-entropy',
    optimizer: { name: 'sgd', learningRate: 1 },
    epochs: 1,
    batchSize: 1,
    distillation,
  };
  expect(() => parsePlan(plan)).toThrow(words);
  expect(() => parsePlan({ ...plan, loss: 'mse', distillation: {} })).toThrow(
    'distillation is for cross-entropy, and the loss is mse',
  );
});
