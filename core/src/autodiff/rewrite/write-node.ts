import { requireInputs } from '../../onnx/arity.ts';
import { NotTrainableError } from '../../onnx/errors.ts';
import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { findAttribute } from '../../onnx/nodes.ts';
import { gradientRule } from '../gradients.ts';
import { floatTensor, int64Tensor } from '../../onnx/tensor-data.ts';
import { attention } from './attention.ts';
import { functions } from './functions.ts';
import { norms } from './norms.ts';
import { constantOf, inOpset17 } from './opset.ts';
import { recurrent } from './recurrent.ts';
import type { Rewrite, RewriteTable } from './rewrite.ts';

/** The rewrites by family, as the documentation lists them. */
export const rewriteFamilies: Readonly<Record<string, RewriteTable>> = {
  function: functions,
  normalisation: norms,
  'recurrent layer': recurrent,
  attention,
};

/** Operators that are trained as what they are made of. */
export const rewrites: RewriteTable = Object.assign({}, ...Object.values(rewriteFamilies));

const domains: readonly string[] = ['', 'ai.onnx', 'com.microsoft'];

export function rewriteOf(node: NodeProto): Rewrite | undefined {
  return domains.includes(node.domain) && Object.hasOwn(rewrites, node.opType) ? rewrites[node.opType] : undefined;
}

/** What to do about a node that is in the way of a gradient. */
export function mendOf({ opType }: NodeProto): string {
  if (Object.hasOwn(mends, opType)) return mends[opType]!;
  if (QUANTIZED.test(opType)) return 'train the float32 model, and quantize what comes of it';
  return ROUNDS.includes(opType)
    ? 'it is flat almost everywhere: leave it out of what is trained, or do it behind the model'
    : 'replace it before the export, or freeze what is in front of it (model import --train)';
}

/** Operators whose slope is zero wherever they have one. */
const ROUNDS: readonly string[] = [
  'Ceil',
  'Floor',
  'Round',
  'Sign',
  'ArgMax',
  'ArgMin',
  'Hardmax',
  'OneHot',
  'TopK',
  'NonZero',
];

const mends: Readonly<Record<string, string>> = {
  Loop: 'export the model traced with a fixed number of steps, so that the loop is written out (an LSTM or GRU as operator LSTM or GRU)',
  Scan: 'export the model traced with a fixed number of steps, so that the loop is written out (an LSTM or GRU as operator LSTM or GRU)',
  If: 'export the model traced with fixed shapes, so that one branch is left; or write the choice as Where',
};

const QUANTIZED =
  /^(DynamicQuantizeLinear|QuantizeLinear|DequantizeLinear|MatMulInteger|ConvInteger|MatMulNBits|QLinear\w+|QGemm)$/;

/** Writes one node of a model in operators that have gradients. */
export function writeNode(graph: GraphBuilder, node: NodeProto): void {
  const mend = Object.hasOwn(mends, node.opType) ? mends[node.opType] : undefined;
  if (mend !== undefined) {
    throw new NotTrainableError(`operator ${node.opType} of node '${node.name}' branches at run time; ${mend}`, {
      node: node.name,
      operator: node.opType,
    });
  }
  requireInputs(node);
  if (writeConstant(graph, node)) return;
  const rewrite = rewriteOf(node);
  if (QUANTIZED.test(node.opType) && rewrite === undefined && gradientRule(node) === undefined) {
    throw new NotTrainableError(
      `node '${node.name}' (${node.opType}) is of a quantized form; train the float32 model, and quantize what comes of it`,
      { node: node.name, operator: node.opType },
    );
  }
  if (rewrite === undefined) graph.append(inOpset17(graph, node));
  else rewrite(graph, node);
}

/** A Constant becomes an initializer. */
function writeConstant(graph: GraphBuilder, node: NodeProto): boolean {
  if (node.opType !== 'Constant') return false;
  const name = node.output[0]!;
  const tensor = findAttribute(node, 'value')?.t;
  const numbers = constantOf(node);
  if (tensor !== undefined) graph.initializer({ ...tensor, name });
  else if (numbers === undefined) return false;
  else if ('floats' in numbers) graph.initializer(floatTensor(name, numbers.shape, Float32Array.from(numbers.floats)));
  else graph.initializer(int64Tensor(name, numbers.integers, numbers.shape));
  return true;
}
