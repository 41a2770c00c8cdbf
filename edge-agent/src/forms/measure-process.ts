// The process that runs one form of a version beside float32, and ends.
import { contractOf, readModel } from '@commonweight/core';
import { labelsOf } from '../data/dataset.ts';
import { loadDataset } from '../data/load-dataset.ts';
import { answerOnce } from '../own-process/answer.ts';
import { feedsOf, openSession } from '../own-process/run-examples.ts';
import { holdOutOrder, splitExamples } from '../training/held-out.ts';
import { FormComparison } from './compare.ts';
import type { FormCounts, FormJob } from './messages.ts';

/** A slow device says what it found until then, of fewer examples. */
const RUNS_MS_MAX = 20_000;

answerOnce(async ({ data, float32, form, examplesMax, holdOut, classes, threads }: FormJob): Promise<FormCounts> => {
  const set = await loadDataset(data);
  const { examples } = set;
  const own = holdOut > 0 ? splitExamples(examples, holdOut).held : holdOutOrder(examples);
  const { inputs, outputs } = contractOf(readModel(float32));
  const [before, after] = [await openSession(float32, threads), await openSession(form, threads)];
  const labels = classes ? labelsOf(set) : undefined;
  const comparison = new FormComparison(
    outputs.map(({ name }) => name),
    labels,
  );
  const endMs = performance.now() + RUNS_MS_MAX;
  // One example at a time, as an app asks: in a batch the ranges of int8-dynamic would be those of all its rows.
  for (const index of own.slice(0, examplesMax)) {
    comparison.add(
      index,
      await before.run(feedsOf(set, inputs, [index])),
      await after.run(feedsOf(set, inputs, [index])),
    );
    if (performance.now() > endMs) break;
  }
  await before.release();
  await after.release();
  return comparison.counts();
});
