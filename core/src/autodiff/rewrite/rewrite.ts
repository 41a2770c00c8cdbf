import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';

/** Writes a node by simpler operators that have gradients; the outputs keep their names. */
export type Rewrite = (graph: GraphBuilder, node: NodeProto) => void;

export type RewriteTable = Readonly<Record<string, Rewrite>>;
