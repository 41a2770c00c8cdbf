import { ancestors, dependents } from '../autodiff/reachability.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute } from '../onnx/nodes.ts';

/** A node that looks whole numbers up in a table of float vectors: where a model of tokens begins to be differentiable. */
export interface Embedding {
  node: NodeProto;
  /** The model's input that the places follow from. */
  input: string;
  /** Nodes between the input and the places, in order. */
  chain: readonly NodeProto[];
}

/** The tables that are read at places which follow from one of these inputs. */
export function embeddingsOf(
  nodes: readonly NodeProto[],
  tensors: readonly TensorProto[],
  inputs: readonly string[],
): Embedding[] {
  const tables = new Set(
    tensors.flatMap(({ name, dataType, dims }) =>
      dataType === TensorProto_DataType.FLOAT && dims.length >= 2 ? [name] : [],
    ),
  );
  return inputs.flatMap((input) => {
    const moved = dependents(nodes, [input]);
    return nodes.flatMap((node): Embedding[] => {
      const [table = '', places = ''] = node.input;
      const isLookup = node.opType === 'Gather' && intAttribute(node, 'axis', 0) === 0 && tables.has(table);
      if (!isLookup || !moved.has(places)) return [];
      const needed = ancestors(nodes, [places]);
      const chain = nodes.filter(({ output }) => output.some((name) => needed.has(name) && moved.has(name)));
      return [{ node, input, chain }];
    });
  });
}
