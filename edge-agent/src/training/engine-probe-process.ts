// Trains a small model with one engine and says how long a step took: `engine-probe-process ENGINE THREADS`, with a channel to its parent.
import { mlp, parsePlan, seeded, splitModel } from '@commonweight/core';
import { arrayDataset, type Dataset } from '../data/dataset.ts';
import type { EngineName, FromProbe } from './engines.ts';
import { OrtTrainer } from './train.ts';

const [INPUTS, CLASSES, BATCH, STEPS] = [784, 10, 32, 20];
const TURNS = 5;

const [engine = 'cpu', threads = '1'] = process.argv.slice(2);
const tell = (message: FromProbe): void => void process.send?.(message);

/** Examples of a class each, which any engine learns to tell apart. */
function examples(): Dataset {
  const random = seeded('probe');
  const count = BATCH * STEPS;
  const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
  const inputs = new Float32Array(count * INPUTS).map(() => 0.1 * random.normal());
  labels.forEach((label, i) => (inputs[i * INPUTS + label] = 2));
  return arrayDataset('probe', { values: inputs, shape: [INPUTS], labels });
}

try {
  const trainer = new OrtTrainer(examples(), { engine: engine as EngineName, threads: Number(threads) });
  const { graph, weights } = splitModel(mlp({ inputs: INPUTS, hidden: [200, 200], outputs: CLASSES, seed: 1 }));
  const optimizer = { name: 'sgd', learningRate: 0.1 };
  const plan = parsePlan({ loss: 'cross-entropy', optimizer, epochs: 1, batchSize: BATCH });
  const turns = [];
  for (let turn = 0; turn < TURNS; turn++) turns.push(await trainer.train({ graph, weights, plan, seed: 1n }));
  const { loss } = turns[0]!;
  // By chance alone it would be ln 10.
  if (!(loss < Math.log(CLASSES)))
    throw new Error(`what it computes is wrong: the loss is ${loss} after ${STEPS} steps`);
  // The first turn makes the session.
  const times = turns.slice(1).map(({ ms }) => ms / STEPS);
  tell({ stepMs: times.sort((a, b) => a - b)[Math.floor(times.length / 2)]! });
} catch (error) {
  // ONNX Runtime says first where in its source it was.
  const [first = ''] = (error as Error).message.split('\n');
  tell({ why: first.replace(/^.*::.* was (?:false|true)\. /, '').slice(0, 200) });
}
