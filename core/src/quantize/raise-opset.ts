import { graphOf, opsetOf } from '../onnx/file.ts';
import type { GraphProto, ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute, floatAttribute, intAttribute, intsAttribute, makeNode } from '../onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../onnx/tensor-data.ts';
import { QuantizeError } from './errors.ts';
import { GraphView, hasSubgraph, isStandard, labelOf } from './graph-view.ts';

/** First operator set in which DequantizeLinear has a scale per channel. */
export const OPSET_MIN = 13;
/** Older models put things into nodes that this reads differently. */
const OPSET_READABLE_MIN = 7;

/** Rewrites the nodes whose meaning changed on the way to operator set 13; newer models are left alone. */
export function raiseOpset(model: ModelProto): ModelProto {
  const opset = opsetOf(model);
  if (opset >= OPSET_MIN) return model;
  if (opset < OPSET_READABLE_MIN) {
    throw new QuantizeError(
      `operator set ${opset} is too old; export the model with operator set ${OPSET_MIN} or later`,
    );
  }
  const opsetImport = model.opsetImport.map((entry) =>
    entry.domain === '' || entry.domain === 'ai.onnx' ? { ...entry, version: BigInt(OPSET_MIN) } : entry,
  );
  return { ...model, opsetImport, graph: raisedGraph(graphOf(model), opset) };
}

function raisedGraph(graph: GraphProto, opset: number): GraphProto {
  const view = new GraphView(graph);
  const initializer: TensorProto[] = [...graph.initializer];
  const constant = (tensor: TensorProto): string => {
    initializer.push(tensor);
    return tensor.name;
  };
  const node = graph.node.flatMap((one) => {
    if (hasSubgraph(one)) throw stuck(one, opset);
    const rule = isStandard(one, one.opType) && Object.hasOwn(rules, one.opType) ? rules[one.opType] : undefined;
    return rule === undefined || opset >= rule.since ? [one] : rule.rewrite({ node: one, opset, view, constant });
  });
  return { ...graph, node, initializer };
}

interface Site {
  node: NodeProto;
  opset: number;
  view: GraphView;
  constant(tensor: TensorProto): string;
}

interface Rule {
  /** The operator set from which on the node is written as in 13. */
  since: number;
  rewrite(site: Site): NodeProto[];
}

function stuck(node: NodeProto, opset: number): QuantizeError {
  return new QuantizeError(
    `node '${labelOf(node)}' (${node.opType}) is written for operator set ${opset}; export the model with ${OPSET_MIN} or later`,
  );
}

/** Moves an attribute with a list of integers behind the inputs. */
function listBecomesInput(attribute: string): Rule {
  return {
    since: 13,
    rewrite: ({ node, view, constant }) => {
      const list = intsAttribute(node, attribute);
      if (list === undefined) return [node];
      const name = constant(int64Tensor(view.freshName(`${node.output[0]}_${attribute}`), list));
      return [{ ...without(node, attribute), input: [node.input[0]!, name] }];
    },
  };
}

/** Before 13 everything from `axis` on was one row; where it is not the last axis the two differ. */
const rowwise: Rule = {
  since: 13,
  rewrite: ({ node, view }) => {
    const [input, output] = [node.input[0]!, node.output[0]!];
    const axis = intAttribute(node, 'axis', 1);
    if (axis === -1) return [node];
    const [shape, rows, result] = ['shape', 'rows', 'result'].map((part) => view.freshName(`${output}_${part}`));
    return [
      makeNode('Shape', [input], [shape!]),
      makeNode('Flatten', [input], [rows!], { axis }),
      makeNode(node.opType, [rows!], [result!], { axis: -1 }, node.name),
      // The first node has the old name, which other nodes may not have as well.
      makeNode('Reshape', [result!, shape!], [output], {}, view.freshName(`${output}_restored`)),
    ];
  },
};

const refused = (since: number): Rule => ({
  since,
  rewrite: ({ node, opset }) => {
    throw stuck(node, opset);
  },
});

const rules: Readonly<Record<string, Rule>> = {
  Squeeze: listBecomesInput('axes'),
  Unsqueeze: listBecomesInput('axes'),
  ReduceSum: listBecomesInput('axes'),
  Split: listBecomesInput('split'),
  Softmax: rowwise,
  LogSoftmax: rowwise,
  Hardmax: rowwise,
  Clip: {
    since: 11,
    rewrite: ({ node, view, constant }) => {
      const bound = (name: string): string =>
        findAttribute(node, name) === undefined
          ? ''
          : constant(
              floatTensor(
                view.freshName(`${node.output[0]}_${name}`),
                [],
                Float32Array.of(floatAttribute(node, name, 0)),
              ),
            );
      return [{ ...without(node, 'min', 'max'), input: [node.input[0]!, bound('min'), bound('max')] }];
    },
  },
  Pad: {
    since: 11,
    rewrite: ({ node, view, constant }) => {
      const pads = constant(int64Tensor(view.freshName(`${node.output[0]}_pads`), intsAttribute(node, 'pads') ?? []));
      const fill = Float32Array.of(floatAttribute(node, 'value', 0));
      const value = constant(floatTensor(view.freshName(`${node.output[0]}_value`), [], fill));
      return [{ ...without(node, 'pads', 'value'), input: [node.input[0]!, pads, value] }];
    },
  },
  Slice: {
    since: 10,
    rewrite: ({ node, view, constant }) => {
      const starts = intsAttribute(node, 'starts') ?? [];
      const lists = [starts, intsAttribute(node, 'ends') ?? [], intsAttribute(node, 'axes') ?? [...starts.keys()]];
      const names = lists.map((list) => constant(int64Tensor(view.freshName(`${node.output[0]}_slice`), list)));
      return [{ ...without(node, 'starts', 'ends', 'axes'), input: [node.input[0]!, ...names] }];
    },
  },
  Dropout: { since: 12, rewrite: ({ node }) => [{ ...without(node, 'ratio'), input: [node.input[0]!] }] },
  BatchNormalization: {
    since: 9,
    rewrite: ({ node, opset }) => {
      if (intAttribute(node, 'spatial', 1) !== 1) throw stuck(node, opset);
      return [without(node, 'spatial')];
    },
  },
  Upsample: refused(13),
  Resize: refused(11),
  TopK: refused(10),
  Scan: refused(13),
  OneHot: refused(9),
};

function without(node: NodeProto, ...attributes: readonly string[]): NodeProto {
  return { ...node, attribute: node.attribute.filter(({ name }) => !attributes.includes(name)) };
}
