/** Training for few bits: what the static form of a small CNN gets right by it, and how much longer a step takes. */
import { LoadedGraphs, loadDataset, LocalTrainer, openEngine, type Dataset } from '@commonweight/edge-agent';
import { addRanges, fedAvg2nn, splitModel, type ModelProto } from '@commonweight/core';
import { percent, table } from '../../cli/src/output/format.ts';
import { fewBits, firstOf, planOf, smallCnn } from '../support/few-bits.ts';
import type { Report } from './report.ts';

const TURNS = 5;
const EXAMPLES = 1600;

export async function report(): Promise<Report> {
  const { float32, byBits } = await fewBits();
  const train = firstOf(await loadDataset('mnist'), EXAMPLES);
  const ratios = { cnn: await stepRatio(smallCnn(), train), mlp: await stepRatio(fedAvg2nn(1), train) };
  const rows = ([3, 2] as const).map((bits) => {
    const { without, trainedFor } = byBits[bits];
    return [`${bits} bits`, percent(without), percent(trainedFor)];
  });
  return {
    figures: {
      accuracy_float32: float32,
      ...Object.fromEntries(
        ([3, 2] as const).flatMap((bits) => [
          [`accuracy_${bits}_bits`, byBits[bits].without],
          [`accuracy_${bits}_bits_trained_for`, byBits[bits].trainedFor],
        ]),
      ),
      step_ratio_cnn: ratios.cnn,
      step_ratio_mlp: ratios.mlp,
    },
    text: [
      `float32 gets ${percent(float32)} of the held-out digits right; the static form of`,
      table(['weights', 'trained as long without', 'trained for it'], rows),
      `a step that rounds to 4 and 8 bits takes ${ratios.cnn.toFixed(2)} times as long in the CNN, ${ratios.mlp.toFixed(2)} times in the 2NN`,
    ].join('\n'),
    details: {},
    failures: [],
  };
}

/** How many times as long training takes that rounds, turn by turn with training that does not; the median turn. */
async function stepRatio(model: ModelProto, data: Dataset): Promise<number> {
  const engine = await openEngine('ort-cpu', { threads: 1 });
  const graphs = new LoadedGraphs(engine, 2);
  const trainer = new LocalTrainer(data, graphs);
  const { graph, weights } = splitModel(addRanges(model));
  const plans = [planOf({}), planOf({ quantizationAware: { weights: 4, activations: 8 } })] as const;
  const msOf = async (plan: (typeof plans)[number]): Promise<number> => {
    const startMs = performance.now();
    await trainer.train({ graph, weights, plan, seed: 1n });
    return performance.now() - startMs;
  };
  // The first of each compiles its graph.
  for (const plan of plans) await msOf(plan);
  const ratios: number[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    const plainMs = await msOf(plans[0]);
    ratios.push((await msOf(plans[1])) / plainMs);
  }
  await graphs.release();
  await engine.release();
  return ratios.toSorted((a, b) => a - b)[TURNS >> 1]!;
}
