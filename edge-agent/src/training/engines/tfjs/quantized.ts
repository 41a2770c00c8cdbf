/** What TensorFlow.js is not asked to compute: some of it could be, with nothing gained. */
import { lackOf, type ModelNeeds } from '@commonweight/core';

/** Operators of quantized forms. */
const QUANTIZED = /Quantize|^QLinear|^QGemm$|^(?:MatMul|Conv)Integer|NBits$/;

export const isQuantizedOperator = (name: string): boolean => QUANTIZED.test(name);

/** What it lacks of what a form needs. That it computes all standard operators is for a model that is loaded to find out. */
export const tfjsLacks = (needs: ModelNeeds): string | undefined =>
  lackOf(needs, {
    irVersion: Infinity,
    operatorSets: { '': Infinity },
    lacksOperator: isQuantizedOperator,
    lacksType: (name) => name === 'float16' || name === 'bfloat16',
  });
