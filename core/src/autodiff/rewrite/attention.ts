import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { floatAttribute, intAttribute, intsAttribute } from '../../onnx/nodes.ts';
import { hasInput } from '../../onnx/shape-rule.ts';
import { refuse, reshapeTo, transpose } from '../rule.ts';
import type { Rewrite, RewriteTable } from './rewrite.ts';

const { BOOL } = TensorProto_DataType;

/** What the score of a key that is not to be seen becomes: its share of attention is zero. */
const UNSEEN = -1e30;

/** Attention and what belongs to it, written out (Vaswani et al. 2017). A row of which no key is to be seen attends to all alike. */
export const attention: RewriteTable = {
  Attention: (graph, node) =>
    node.domain === 'com.microsoft' ? packedAttention(graph, node) : plainAttention(graph, node),
  MultiHeadAttention: (graph, node) => {
    refuseInputs(node, { 6: 'past keys', 7: 'past values' });
    const heads = intAttribute(node, 'num_heads', 1);
    const [query, key = '', value = '', bias = '', padding = '', added = ''] = node.input;
    if (
      [key, value].some((name) => name === '' || graph.shapeOf(name).length !== 3) ||
      graph.shapeOf(query!).length !== 3
    ) {
      return refuse(
        node,
        'has query, key and value packed together; export them as three tensors [batch, length, width]',
      );
    }
    const given = [query!, key, value];
    const widths = given.map((name) => graph.shapeOf(name).at(-1)!);
    const biases = bias === '' ? [] : graph.emitAll('Split', [bias, graph.integers(widths)], 3, { axis: 0 });
    const [q, k, v] = given.map((name, index) => {
      const own = biases[index];
      return inHeads(graph, own === undefined ? name : graph.emit('Add', [name, own]), heads);
    }) as [string, string, string];
    write(graph, node, { q, k, v, isFlat: true, masks: masksOf(graph, node, { padding, added, q, k }) });
  },
  RotaryEmbedding: rotary,
};

/** The operator of ONNX 23 and later: heads as an axis of their own or not, fewer heads of keys than of queries. */
function plainAttention(graph: GraphBuilder, node: NodeProto): void {
  refuseInputs(node, { 4: 'past keys', 5: 'past values', 6: 'lengths of the cache' });
  if ((node.output[3] ?? '') !== '') refuse(node, 'gives its scores as well; export it without that output');
  const isFlat = graph.shapeOf(node.input[0]!).length === 3;
  const counts = ['q_num_heads', 'kv_num_heads', 'kv_num_heads'].map((name) => intAttribute(node, name, 1));
  const [q, k, v] = node.input
    .slice(0, 3)
    .map((name, index) => (isFlat ? inHeads(graph, name, counts[index]!) : name)) as [string, string, string];
  // What a cache would go on from.
  for (const [position, name] of [k, v].entries()) {
    const output = node.output[position + 1] ?? '';
    if (output !== '') graph.emit('Identity', [name], {}, output);
  }
  const heads = graph.shapeOf(q)[1]!;
  const masks: Mask[] = [];
  if (hasInput(node, 3)) masks.push(maskFrom(graph, node.input[3]!));
  if (intAttribute(node, 'is_causal', 0) === 1) masks.push(causal(graph, q, k));
  write(graph, node, { q, k: repeated(graph, k, heads), v: repeated(graph, v, heads), isFlat, masks });
}

/** The operator that ONNX Runtime's optimizer makes: one product for queries, keys and values. */
function packedAttention(graph: GraphBuilder, node: NodeProto): void {
  refuseInputs(node, { 4: 'past keys and values', 6: 'a past length' });
  if (intAttribute(node, 'do_rotary', 0) === 1)
    refuse(node, 'rotates its queries; export it with RotaryEmbedding apart');
  const [x, weight, bias = '', mask = '', , added = ''] = node.input as string[];
  const heads = intAttribute(node, 'num_heads', 1);
  const product = graph.emit('MatMul', [x!, weight!]);
  const all = bias === '' ? product : graph.emit('Add', [product, bias]);
  const width = graph.shapeOf(all).at(-1)! / 3;
  const sizes = intsAttribute(node, 'qkv_hidden_sizes') ?? [width, width, width];
  const parts = graph.emitAll('Split', [all, graph.integers(sizes)], 3, { axis: 2 });
  const [q, k, v] = parts.map((name) => inHeads(graph, name, heads)) as [string, string, string];
  write(graph, node, { q, k, v, isFlat: true, masks: masksOf(graph, node, { padding: mask, added, q, k }) });
}

/** Changes scores [batch, heads, queries, keys]. */
type Mask = (scores: string) => string;

interface Parts {
  /** All [batch, heads, length, width of a head]. */
  q: string;
  k: string;
  v: string;
  /** Whether heads lie side by side in what comes out. */
  isFlat: boolean;
  masks: readonly Mask[];
}

function write(graph: GraphBuilder, node: NodeProto, { q, k, v, isFlat, masks }: Parts): void {
  const width = graph.shapeOf(q)[3]!;
  const given = floatAttribute(node, 'scale', 0);
  const scale = graph.scalar(given === 0 ? 1 / Math.sqrt(width) : given);
  let scores = graph.emit('MatMul', [graph.emit('Mul', [q, scale]), transpose(graph, k, [0, 1, 3, 2])]);
  const cap = floatAttribute(node, 'softcap', 0);
  if (cap !== 0) {
    const bent = graph.emit('Tanh', [graph.emit('Div', [scores, graph.scalar(cap)])]);
    scores = graph.emit('Mul', [bent, graph.scalar(cap)]);
  }
  for (const mask of masks) scores = mask(scores);
  const shares = graph.emit('Softmax', [scores], { axis: -1 });
  const [output] = node.output;
  if (!isFlat) return void graph.emit('MatMul', [shares, v], {}, output);
  const turned = transpose(graph, graph.emit('MatMul', [shares, v]), [0, 2, 1, 3]);
  const [batch, length, heads, each] = graph.shapeOf(turned) as [number, number, number, number];
  graph.emit('Reshape', [turned, graph.integers([batch, length, heads * each])], {}, output);
}

/** [batch, length, width] as [batch, heads, length, width of a head]. */
function inHeads(graph: GraphBuilder, x: string, heads: number): string {
  const [batch, length, width] = graph.shapeOf(x) as [number, number, number];
  return transpose(graph, reshapeTo(graph, x, [batch, length, heads, width / heads]), [0, 2, 1, 3]);
}

/** Each head of keys for as many heads of queries (Ainslie et al. 2023). */
function repeated(graph: GraphBuilder, x: string, heads: number): string {
  const [batch, own, length, width] = graph.shapeOf(x) as [number, number, number, number];
  if (own === heads) return x;
  const apart = graph.emit('Unsqueeze', [x, graph.integers([2])]);
  const spread = graph.emit('Expand', [apart, graph.integers([batch, own, heads / own, length, width])]);
  return reshapeTo(graph, spread, [batch, heads, length, width]);
}

/** A mask of truths says which keys are seen; one of numbers is added. */
function maskFrom(graph: GraphBuilder, mask: string): Mask {
  if (graph.typeOf(mask).elemType !== BOOL) return (scores) => graph.emit('Add', [scores, mask]);
  return (scores) => graph.emit('Where', [mask, scores, graph.scalar(UNSEEN)]);
}

/** Query i sees key j where j ≤ i. */
function causal(graph: GraphBuilder, q: string, k: string): Mask {
  const [queries, keys] = [graph.shapeOf(q)[2]!, graph.shapeOf(k)[2]!];
  const seen = Float32Array.from({ length: queries * keys }, (_, index) =>
    Number(index % keys <= Math.floor(index / keys)),
  );
  const mask = graph.emit('Cast', [graph.floats(seen, [queries, keys])], { to: BOOL });
  return (scores) => graph.emit('Where', [mask, scores, graph.scalar(UNSEEN)]);
}

/** Masks of ONNX Runtime's own operators: whole numbers [batch, keys] that are zero where nothing is, and what is added. */
function masksOf(
  graph: GraphBuilder,
  node: NodeProto,
  { padding, added, q, k }: { padding: string; added: string; q: string; k: string },
): Mask[] {
  const masks: Mask[] = [];
  if (padding !== '') {
    const [batch, keys, ...more] = graph.shapeOf(padding);
    if (keys === undefined || more.length > 0)
      return refuse(node, 'takes lengths of sequences; give it a mask [batch, length]');
    const seen = graph.emit('Cast', [reshapeTo(graph, padding, [batch!, 1, 1, keys])], { to: BOOL });
    masks.push((scores) => graph.emit('Where', [seen, scores, graph.scalar(UNSEEN)]));
  }
  if (added !== '') masks.push((scores) => graph.emit('Add', [scores, added]));
  if (intAttribute(node, 'unidirectional', 0) === 1) masks.push(causal(graph, q, k));
  return masks;
}

function refuseInputs(node: NodeProto, inputs: Readonly<Record<number, string>>): void {
  for (const [position, what] of Object.entries(inputs)) {
    if (hasInput(node, Number(position))) refuse(node, `goes on from ${what}; export the model without its cache`);
  }
}

/** Su et al. 2021: each pair of numbers is turned by an angle that grows with the position. */
function rotary(...[graph, node]: Parameters<Rewrite>): void {
  // ONNX Runtime's own operator has the positions second.
  const isContrib = node.domain === 'com.microsoft';
  const [x, ...rest] = node.input as [string, ...string[]];
  const [cosines, sines, positions = ''] = isContrib ? [rest[1]!, rest[2]!, rest[0]!] : [rest[0]!, rest[1]!, rest[2]];
  if (isContrib && graph.shapeOf(positions).length !== 2) {
    return refuse(node, 'takes one position for all; give it positions [batch, length]');
  }
  const isFlat = graph.shapeOf(x).length === 3;
  const cached = graph.shapeOf(cosines).at(-1)!;
  const count = intAttribute(node, 'num_heads', 0);
  const inner = isFlat ? inHeads(graph, x, count > 0 ? count : graph.shapeOf(x)[2]! / (2 * cached)) : x;
  const width = graph.shapeOf(inner)[3]!;
  const given = intAttribute(node, 'rotary_embedding_dim', 0);
  const turned = given > 0 ? given : width;
  const half = turned / 2;
  const angle = (cache: string): string => {
    const at = positions === '' ? cache : graph.emit('Gather', [cache, positions], { axis: 0 });
    return graph.emit('Unsqueeze', [at, graph.integers([1])]);
  };
  const [cos, sin] = [angle(cosines), angle(sines)];
  const cut = (value: string, from: number, to: number, step = 1): string =>
    graph.emit('Slice', [value, ...[[from], [to], [3], [step]].map((list) => graph.integers(list))]);
  const isInterleaved = intAttribute(node, 'interleaved', 0) === 1;
  const first = isInterleaved ? cut(inner, 0, turned, 2) : cut(inner, 0, half);
  const second = isInterleaved ? cut(inner, 1, turned, 2) : cut(inner, half, turned);
  const product = (a: string, b: string): string => graph.emit('Mul', [a, b]);
  const real = graph.emit('Sub', [product(first, cos), product(second, sin)]);
  const imaginary = graph.emit('Add', [product(first, sin), product(second, cos)]);
  const shape = [...graph.shapeOf(inner).slice(0, 3), turned];
  const apart = (value: string): string => graph.emit('Unsqueeze', [value, graph.integers([4])]);
  const joined = isInterleaved
    ? reshapeTo(graph, graph.emit('Concat', [apart(real), apart(imaginary)], { axis: 4 }), shape)
    : graph.emit('Concat', [real, imaginary], { axis: 3 });
  const whole = turned === width ? joined : graph.emit('Concat', [joined, cut(inner, turned, width)], { axis: 3 });
  if (!isFlat) return void graph.emit('Identity', [whole], {}, node.output[0]);
  graph.emit('Reshape', [transpose(graph, whole, [0, 2, 1, 3]), graph.integers(graph.shapeOf(x))], {}, node.output[0]);
}
