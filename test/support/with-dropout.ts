import { readModel, writeModel, type ModelProto } from '@commonweight/core';

/** A copy of a model with a Dropout behind its first Relu. */
export function withDropout(original: ModelProto): ModelProto {
  const model = readModel(writeModel(original));
  const nodes = model.graph!.node;
  const relu = nodes.find(({ opType }) => opType === 'Relu')!;
  const [value] = relu.output;
  const dropout = { ...relu, opType: 'Dropout', name: 'drop', input: ['before'], output: [value!], attribute: [] };
  relu.output = ['before'];
  nodes.splice(nodes.indexOf(relu) + 1, 0, dropout);
  return model;
}
