// Trains small models with one engine and says how long a step took: `probe-process ENGINE THREADS`, with a channel to its parent.
import { cnn, mlp, parsePlan, seeded, splitModel, type ModelProto } from '@commonweight/core';
import { arrayDataset, type Dataset } from '../../data/dataset.ts';
import { plainReason, type EngineName } from '../engine.ts';
import type { TrainingResult } from '../messages.ts';
import { LocalTrainer } from '../train.ts';
import { openEngine } from './open.ts';
import type { FromProbe } from './probe.ts';

const [INPUTS, CLASSES, BATCH] = [784, 10, 32];
/** Turns of all steps: at least two, since the first one makes the session, and no more than fit into so long. */
const [TURNS_MAX, TURNS_MS_MAX] = [5, 10_000];
/** Of an engine that is slower than this with the MLP the CNN would take minutes. */
const MLP_MS_MAX = 50;

const [name = 'ort-cpu', threads = '1'] = process.argv.slice(2);
const tell = (message: FromProbe): void => void process.send?.(message);

/** Examples of a class each, which any engine learns to tell apart. */
function examples(steps: number): Dataset {
  const random = seeded('probe');
  const count = BATCH * steps;
  const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
  const inputs = new Float32Array(count * INPUTS).map(() => 0.1 * random.normal());
  labels.forEach((label, i) => (inputs[i * INPUTS + label] = 2));
  return arrayDataset('made up', { values: inputs, shape: [INPUTS], labels });
}

try {
  const engine = await openEngine(name as EngineName, { threads: Number(threads) });
  const measured = async (model: ModelProto, steps: number): Promise<{ ms: number; result: TrainingResult }> => {
    const trainer = new LocalTrainer(examples(steps), engine);
    const { graph, weights } = splitModel(model);
    const optimizer = { name: 'sgd', learningRate: 0.1 };
    const plan = parsePlan({ loss: 'cross-entropy', optimizer, epochs: 1, batchSize: BATCH });
    const turns: TrainingResult[] = [];
    const beganMs = performance.now();
    while (turns.length < TURNS_MAX && (turns.length < 2 || performance.now() - beganMs < TURNS_MS_MAX))
      turns.push(await trainer.train({ graph, weights, plan, seed: 1n }));
    const times = turns.slice(1).map((turn) => turn.ms / steps);
    return { ms: Math.min(...times), result: turns[0]! };
  };
  const mlpSteps = 8;
  const small = await measured(mlp({ inputs: INPUTS, hidden: [200, 200], outputs: CLASSES, seed: 1 }), mlpSteps);
  const { loss } = small.result;
  // By chance alone it would be ln 10.
  if (!(loss < Math.log(CLASSES)))
    throw new Error(`what it computes is wrong: the loss is ${loss} after ${mlpSteps} steps`);
  const large = small.ms > MLP_MS_MAX ? undefined : await measured(cnn({ seed: 1 }), 2);
  const elsewhere = [...new Set([...small.result.elsewhere, ...(large?.result.elsewhere ?? [])])].sort();
  const { runsOn } = engine;
  tell({
    mlpMs: small.ms,
    elsewhere,
    ...(large === undefined ? {} : { cnnMs: large.ms }),
    ...(runsOn === undefined ? {} : { runsOn }),
  });
} catch (error) {
  tell({ why: plainReason(error) });
}
