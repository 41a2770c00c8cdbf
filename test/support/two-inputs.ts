import { type ModelProto } from '@commonweight/core';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';

/** A model of two inputs, of which each has a table's form: it adds them. */
export const pair: ModelProto = makeModel({
  name: 'pair',
  node: [makeNode('Add', ['a', 'b'], ['y'])],
  initializer: [],
  input: [makeValue('a', ['batch', 2]), makeValue('b', ['batch', 2])],
  output: [makeValue('y', ['batch', 2])],
});
