import {
  buildTrainingGraph,
  layoutOf,
  readModel,
  splitModel,
  stepOfTraining,
  type ModelProto,
  type TrainingGraph,
  type TrainingPlan,
} from '@commonweight/core';
import { openEngine } from '../../edge-agent/src/training/engines/open.ts';

export const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.05 },
  epochs: 1,
  batchSize: 10,
};

/** Steps of a model as agents take them, on one thread. */
export interface Stepper {
  /** Milliseconds of each step; the parameters of one feed the next. */
  run(steps: number): Promise<number[]>;
  release(): Promise<void>;
}

export async function ourStepper(model: ModelProto, batchSize: number): Promise<Stepper> {
  const { graph, weights } = splitModel(model);
  const split = readModel(graph);
  const engine = await openEngine('ort-cpu', { threads: 1 });
  const training = buildTrainingGraph(split, plan, batchSize, engine.forms);
  const program = await engine.compile(stepOfTraining(training));
  const { target, sampleWeights } = training;
  const [data] = training.data as [TrainingGraph['data'][number]];
  const size = data.shape.reduce((product, axis) => product * axis, 1);
  const numbers =
    data.dtype === 'int64'
      ? { type: 'int64' as const, data: BigInt64Array.from({ length: size }, (_, at) => BigInt((at * 7919) % 1000)) }
      : { type: 'float32' as const, data: Float32Array.from({ length: size }, (_, at) => Math.abs(Math.sin(at))) };
  const labels = BigInt64Array.from({ length: batchSize }, (_, at) => BigInt(at % 10));
  const feeds = {
    [data.name]: { ...numbers, dims: data.shape },
    [target.name]: { type: 'int64' as const, data: labels, dims: target.shape },
    [sampleWeights]: { type: 'float32' as const, data: new Float32Array(batchSize).fill(1), dims: [batchSize] },
  };
  program.write(
    Object.fromEntries(
      layoutOf(split).parameters.map(({ name, offset, length }) => [name, weights.subarray(offset, offset + length)]),
    ),
  );
  const together = Array.from({ length: program.stepsAtOnce }, () => feeds);
  return {
    run: async (steps) => {
      const times: number[] = [];
      while (times.length < steps) {
        const startMs = performance.now();
        await program.run(together);
        const ms = (performance.now() - startMs) / together.length;
        for (const _ of together) times.push(ms);
      }
      return times;
    },
    release: () => program.release(),
  };
}
