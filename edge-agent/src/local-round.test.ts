import {
  encodings,
  ExactSum,
  gridFor,
  improvedBySum,
  layoutOf,
  localMethodOf,
  logistic,
  pack,
  packedLength,
  parsePlan,
  readModel,
  seeded,
  splitModel,
  strategyFrom,
  type TrainingPlan,
} from '@commonweight/core';
import { describe, expect, test } from 'vitest';
import { arrayDataset, type Dataset } from './data/dataset.ts';
import { localRound, type OwnName } from './local-round.ts';
import { openEngine } from './training/engines/open.ts';
import { LocalTrainer } from './training/train.ts';

const INPUTS = 3;
/** Linear regression: three weights and a bias, with the squared error as its loss. */
const { graph, weights: first } = splitModel(logistic({ inputs: INPUTS, outputs: 1, seed: 4 }));
const plan: TrainingPlan = {
  loss: 'mse',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 1000,
};

/** Labels are whole numbers, so the examples of an agent lie about a plane of its own. */
function examplesOf(agent: number, examples: number): Dataset {
  const random = seeded(agent);
  const inputs = Float32Array.from({ length: INPUTS * examples }, () => random.normal());
  const labels = Int32Array.from({ length: examples }, (_, i) => {
    const row = inputs.subarray(i * INPUTS, (i + 1) * INPUTS);
    return Math.round(3 * row[0]! - (agent + 1) * row[1]! + 2 * agent + random.normal());
  });
  return arrayDataset('plane', { values: inputs, shape: [INPUTS], labels });
}

const valuesOf = ({ columns }: Dataset): Float32Array => columns[0]!.values as Float32Array;

const sets = [0, 1, 2, 3].map((agent) => examplesOf(agent, 20 + 10 * agent));
const parameters = layoutOf(readModel(graph)).parameters;
/** A weight vector as the coefficients of the inputs and the bias. */
function coefficients(weights: Float32Array): number[] {
  const bias = parameters.find(({ length }) => length === 1)!;
  const matrix = parameters.find(({ length }) => length === INPUTS)!;
  return [...weights.subarray(matrix.offset, matrix.offset + INPUTS), weights[bias.offset]!];
}

/** An example of a set counts `share`; a ridge pulls towards an anchor. */
interface Objective {
  set: Dataset;
  share: number;
}

/** Least squares: the normal equations, solved by elimination in float64. */
function leastSquares(objectives: readonly Objective[], ridge = 0, anchor: readonly number[] = [0, 0, 0, 0]): number[] {
  const size = INPUTS + 1;
  const rows = Array.from({ length: size }, (_, i) =>
    Array.from({ length: size + 1 }, (_, j) => (j === i ? ridge : j === size ? ridge * anchor[i]! : 0)),
  );
  for (const { set, share } of objectives) {
    for (let e = 0; e < set.examples; e++) {
      const x = [...valuesOf(set).subarray(e * INPUTS, (e + 1) * INPUTS), 1];
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) rows[i]![j]! += share * x[i]! * x[j]!;
        rows[i]![size]! += share * x[i]! * (set.columns[1]!.values[e] as number);
      }
    }
  }
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < size; k++) {
      if (k === i) continue;
      const factor = rows[k]![i]! / rows[i]![i]!;
      for (let j = i; j <= size; j++) rows[k]![j]! -= factor * rows[i]![j]!;
    }
  }
  return rows.map((row, i) => row[size]! / row[i]!);
}

const engine = await openEngine('ort-cpu', { threads: 1 });

const allAlike = sets.map((set) => ({ set, share: 1 }));

/** Rounds of all agents over the exact sum. */
async function federate(strategyName: string, rounds: number, epochs: number): Promise<Float32Array> {
  const strategy = strategyFrom({ name: strategyName });
  const instructed = parsePlan(strategy.instruct({ ...plan, epochs }));
  const grid = gridFor({ valueMaxExponent: 5, weightMax: 1000, cohortMax: 4 });
  const { shape } = localMethodOf(instructed);
  const trainers = sets.map((set) => new LocalTrainer(set, engine));
  const kept = sets.map(() => new Map<OwnName, Float32Array>());
  let version = { weights: first, memory: [] as readonly Float32Array[] };
  for (let round = 0; round < rounds; round++) {
    const sum = new ExactSum(packedLength(shape, first.length, grid), grid);
    for (const [i, trainer] of trainers.entries()) {
      const work = { graph, base: version.weights, memory: version.memory, plan: instructed, seed: BigInt(round) };
      const outcome = await localRound(
        work,
        async (name) => kept[i]!.get(name),
        (job) => trainer.train(job),
      );
      for (const [name, vector] of outcome.own) kept[i]!.set(name, vector);
      const payload = encodings.float32.encode(pack(outcome.parts, shape, grid), grid, seeded(round));
      expect(sum.add('float32', payload, strategy.weigh(outcome.result.examples, 1000))).toBeUndefined();
    }
    version = improvedBySum(strategy, version, sum, { shape, format: { encoding: 'float32', topK: 1 } });
  }
  return version.weights;
}

const expectClose = (values: readonly number[], wanted: readonly number[], digits: number): void => {
  expect(values).toHaveLength(wanted.length);
  for (const [i, value] of values.entries()) expect(value).toBeCloseTo(wanted[i]!, digits);
};

describe('least squares over four agents whose data differ', () => {
  test('fedAvg with one step a round ends at the closed form of all examples', async () => {
    expectClose(coefficients(await federate('fedAvg', 150, 1)), leastSquares(allAlike), 4);
  });

  test('with ten steps it ends elsewhere, and scaffold at the closed form in which every agent counts alike', async () => {
    const alike = sets.map((set) => ({ set, share: 1 / set.examples }));
    expectClose(coefficients(await federate('scaffold', 80, 10)), leastSquares(alike), 3);
    const drifted = coefficients(await federate('fedAvg', 80, 10));
    const off = drifted.map((value, i) => Math.abs(value - leastSquares(allAlike)[i]!));
    expect(Math.max(...off)).toBeGreaterThan(0.01);
  });

  test('fedNova with as many steps each is fedAvg', async () => {
    const [nova, plain] = [await federate('fedNova', 5, 3), await federate('fedAvg', 5, 3)];
    expectClose([...nova], [...plain], 4);
  });
});

describe('what an agent keeps to itself', () => {
  const set = sets[1]!;
  const trainer = new LocalTrainer(set, engine);
  const work = (changes: Partial<TrainingPlan>) => ({
    graph,
    base: first,
    memory: [],
    plan: parsePlan({ ...plan, ...changes }),
    seed: 1n,
  });
  const rounds = async (changes: Partial<TrainingPlan>, count: number) => {
    const own = new Map<OwnName, Float32Array>();
    let outcome = await localRound(
      work(changes),
      async (name) => own.get(name),
      (job) => trainer.train(job),
    );
    for (let i = 1; i < count; i++) {
      for (const [name, vector] of outcome.own) own.set(name, vector);
      outcome = await localRound(
        work(changes),
        async (name) => own.get(name),
        (job) => trainer.train(job),
      );
    }
    return outcome;
  };

  test("ditto: the agent's own model goes to the optimum of its loss and lambda/2 · ‖v − w‖², and the update is fedAvg's", async () => {
    const lambda = 0.5;
    const { parts, own } = await rounds({ local: { name: 'ditto', lambda }, epochs: 5 }, 60);
    // The mean of squares has twice the slope of half of them.
    const objective = [{ set, share: 2 / set.examples }];
    expectClose(coefficients(own.get('personal')!), leastSquares(objective, lambda, coefficients(first)), 4);
    const plain = await rounds({ epochs: 5 }, 1);
    expect(parts).toEqual(plain.parts);
  });

  test('layers of its own move, stay, and are 0 in every vector that leaves it', async () => {
    const bias = parameters.find(({ length }) => length === 1)!;
    for (const local of [undefined, { name: 'scaffold' }, { name: 'fedNova' }]) {
      const changes = { localLayers: [bias.name], ...(local === undefined ? {} : { local }) };
      const one = await rounds(changes, 1);
      const many = await rounds(changes, 4);
      for (const vector of many.parts.vectors) {
        expect(vector[bias.offset]).toBe(0);
        expect(vector.some((value) => value !== 0)).toBe(true);
      }
      expect(one.own.get('layers')).toHaveLength(1);
      expect(Math.abs(many.own.get('layers')![0]!)).toBeGreaterThan(Math.abs(one.own.get('layers')![0]!));
    }
  });

  test('the loss of the base is measured over all examples, the last partial batch too', async () => {
    const { result } = await rounds({ local: { name: 'qFedAvg', q: 1 }, batchSize: 7 }, 1);
    const [a, b, c, bias] = coefficients(first);
    let loss = 0;
    for (let e = 0; e < set.examples; e++) {
      const [x, y, z] = valuesOf(set).subarray(e * INPUTS, (e + 1) * INPUTS);
      loss += (a! * x! + b! * y! + c! * z! + bias! - (set.columns[1]!.values[e] as number)) ** 2 / set.examples;
    }
    expect(result.baseLoss).toBeCloseTo(loss, 3);
  });
});
