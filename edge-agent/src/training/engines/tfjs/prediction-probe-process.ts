// Runs a small model with TensorFlow.js and tells its parent why that does not work.
import type { FromProbe } from '@commonweight/client-sdk';
import { mlp, writeModel } from '@commonweight/core';
import { plainReason } from '../../engine.ts';
import { loadTfjs } from './load-tfjs.ts';
import { TfjsPrediction } from './tfjs-prediction.ts';

const tell = (message: FromProbe): void => void process.send?.(message);

try {
  const { tf } = await loadTfjs();
  const model = new TfjsPrediction(tf, writeModel(mlp({ inputs: 4, hidden: [8], outputs: 2, seed: 1 })));
  const { logits } = await model.run({ input: { type: 'float32', data: new Float32Array(8).fill(1), dims: [2, 4] } });
  const isWhole = logits?.data.length === 4 && (logits.data as Float32Array).every(Number.isFinite);
  tell({ why: isWhole ? undefined : 'a small model had no numbers for an answer' });
} catch (error) {
  tell({ why: plainReason(error) });
}
