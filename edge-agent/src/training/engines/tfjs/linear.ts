import { contractionOf, floatAttribute, intAttribute } from '@commonweight/core';
import { input, lacks, stretched, type OperatorSite, type OperatorTable, type Tensor } from './operator.ts';

/** Products of matrices. */
export const linear: OperatorTable = {
  Gemm: (site) => {
    const { tf, node, inputs } = site;
    const turns = ['transA', 'transB'].map((name) => intAttribute(node, name, 0) === 1);
    const product = tf.matMul(input(site, 0), input(site, 1), turns[0], turns[1]);
    const scaled = times(site, product, floatAttribute(node, 'alpha', 1));
    return inputs[2] === undefined ? scaled : tf.add(scaled, times(site, inputs[2], floatAttribute(node, 'beta', 1)));
  },
  MatMul: (site) => {
    const { tf } = site;
    const [a, b] = [input(site, 0), input(site, 1)];
    const left = a.rank === 1 ? tf.reshape(a, [1, a.size]) : a;
    const right = b.rank === 1 ? tf.reshape(b, [b.size, 1]) : b;
    const shape = site.graph.shapeOf(site.node.output[0]!);
    return tf.reshape(product(site, left, right), [...shape]);
  },
  Einsum: (site) => {
    const { node, graph, inputs } = site;
    const { operands, result } = contractionOf(
      node,
      node.input.map((name) => graph.shapeOf(name)),
    );
    const parts = operands.map((letters, position) => ({ letters: [...letters], tensor: inputs[position]! }));
    if (parts.some(({ letters }) => new Set(letters).size !== letters.length)) return lacks(site, 'of a diagonal');
    let [sofar, ...others] = parts as [Part, ...Part[]];
    for (const [index, next] of others.entries()) {
      const later = new Set([...result, ...others.slice(index + 1).flatMap(({ letters }) => letters)]);
      sofar = contracted(site, sofar, next, later);
    }
    const summed = without(site, sofar, new Set(result));
    return site.tf.transpose(
      summed.tensor,
      result.map((letter) => summed.letters.indexOf(letter)),
    );
  },
};

const times = ({ tf }: OperatorSite, x: Tensor, factor: number): Tensor => (factor === 1 ? x : tf.mul(x, factor));

/** A product whose gradient needs no sum over batches that were stretched. */
function product(site: OperatorSite, left: Tensor, right: Tensor): Tensor {
  const { tf } = site;
  const [rows, depth, columns] = [left.shape.at(-2)!, left.shape.at(-1)!, right.shape.at(-1)!];
  if (right.rank === 2) {
    const flat = tf.matMul(tf.reshape(left, [left.size / depth, depth]), right);
    return tf.reshape(flat, [...left.shape.slice(0, -1), columns]);
  }
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const a = stretched(site, left, [...batch, rows, depth]);
  const b = stretched(site, right, [...batch, depth, columns]);
  return tf.matMul(a, b);
}

/** A tensor with a letter for each of its axes. */
interface Part {
  letters: string[];
  tensor: Tensor;
}

/** Sums over the axes that nobody asks for. */
function without({ tf }: OperatorSite, { letters, tensor }: Part, wanted: ReadonlySet<string>): Part {
  const axes = letters.flatMap((letter, axis) => (wanted.has(letter) ? [] : [axis]));
  if (axes.length === 0) return { letters, tensor };
  return { letters: letters.filter((letter) => wanted.has(letter)), tensor: tf.sum(tensor, axes) };
}

/** The product of two, summed over the letters that do not come later, as one product of matrices. */
function contracted(site: OperatorSite, first: Part, second: Part, later: ReadonlySet<string>): Part {
  const { tf } = site;
  const a = without(site, first, new Set([...later, ...second.letters]));
  const b = without(site, second, new Set([...later, ...first.letters]));
  const shared = a.letters.filter((letter) => b.letters.includes(letter));
  const [batch, inner] = [shared.filter((letter) => later.has(letter)), shared.filter((letter) => !later.has(letter))];
  const [rows, columns] = [a, b].map(({ letters }) => letters.filter((letter) => !shared.includes(letter))) as [
    string[],
    string[],
  ];
  const sizes = new Map([...a.letters.entries()].map(([axis, letter]) => [letter, a.tensor.shape[axis]!]));
  for (const [axis, letter] of b.letters.entries()) sizes.set(letter, b.tensor.shape[axis]!);
  const all = (letters: readonly string[]): number => letters.reduce((size, letter) => size * sizes.get(letter)!, 1);
  const matrices = ({ letters, tensor }: Part, order: string[], shape: number[]): Tensor =>
    tf.reshape(
      tf.transpose(
        tensor,
        order.map((letter) => letters.indexOf(letter)),
      ),
      shape,
    );
  const left = matrices(a, [...batch, ...rows, ...inner], [all(batch), all(rows), all(inner)]);
  const right = matrices(b, [...batch, ...inner, ...columns], [all(batch), all(inner), all(columns)]);
  const letters = [...batch, ...rows, ...columns];
  return {
    letters,
    tensor: tf.reshape(
      tf.matMul(left, right),
      letters.map((letter) => sizes.get(letter)!),
    ),
  };
}
