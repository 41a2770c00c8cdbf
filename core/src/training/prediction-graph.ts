import { contractOf, elemTypeOf } from '../onnx/contract.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { Shape } from '../tensor/shape.ts';
import { writeForward } from './forward-pass.ts';

/**
 * What a whole model predicts by, with its weights among the constants, for inputs of these shapes: every shape in it is known, and layers that
 * are trained as what they are made of are written so. Throws OnnxError for operators whose shapes nobody here knows.
 */
export function openPrediction(model: ModelProto, shapes: Readonly<Record<string, Shape>>): GraphBuilder {
  const graph = new GraphBuilder('prediction/');
  const { inputs, outputs } = contractOf(model);
  for (const { name, dtype } of inputs) graph.input(name, shapes[name] ?? [], elemTypeOf(dtype));
  writeForward(
    graph,
    model,
    outputs.map(({ name }) => name),
  );
  return graph;
}
