import { OnnxError } from './errors.ts';
import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import { stringAttribute } from './nodes.ts';
import type { Shape } from '../tensor/shape.ts';

/** An Einsum with a letter for every axis of every operand, an ellipsis included. */
export interface Contraction {
  operands: readonly (readonly string[])[];
  result: readonly string[];
  /** Size of the axis behind each letter. */
  sizes: ReadonlyMap<string, number>;
}

const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];

/** Reads an Einsum's equation; throws OnnxError where the shapes do not fit it. */
export function contractionOf(node: NodeProto, shapes: readonly Shape[]): Contraction {
  const equation = stringAttribute(node, 'equation', '').replaceAll(' ', '');
  const [left = '', right] = equation.split('->');
  const terms = left.split(',');
  const fail = (why: string): never => {
    throw new OnnxError(`equation '${equation}' of node '${node.name}' (Einsum) ${why}; mend the model`);
  };
  if (terms.length !== shapes.length) fail(`has ${terms.length} terms and ${shapes.length} inputs`);
  const free = letters.filter((letter) => !equation.includes(letter));
  const hidden = Math.max(0, ...terms.map((term, index) => hiddenAxes(term, shapes[index]!)));
  const ellipsis = free.slice(0, hidden);
  const operands = terms.map((term, index) => {
    const own = ellipsis.slice(hidden - hiddenAxes(term, shapes[index]!));
    const named = spelled(term, own);
    return named.length === shapes[index]!.length ? named : fail(`does not fit an input [${shapes[index]!.join()}]`);
  });
  const sizes = new Map<string, number>();
  for (const [index, operand] of operands.entries()) {
    for (const [axis, letter] of operand.entries()) {
      const size = shapes[index]![axis]!;
      if ((sizes.get(letter) ?? size) !== size) fail(`has axes of ${sizes.get(letter)} and ${size} under one letter`);
      sizes.set(letter, size);
    }
  }
  return { operands, result: spelled(right ?? implied(left), ellipsis), sizes };
}

/** How an equation with a letter for every axis is written. */
export function equationOf(operands: readonly (readonly string[])[], result: readonly string[]): string {
  return `${operands.map((operand) => operand.join('')).join()}->${result.join('')}`;
}

function hiddenAxes(term: string, shape: Shape): number {
  return term.includes('...') ? shape.length - (term.length - 3) : 0;
}

function spelled(term: string, ellipsis: readonly string[]): string[] {
  const [before = '', after = ''] = term.split('...');
  return term.includes('...') ? [...before, ...ellipsis, ...after] : [...before];
}

/** Without an arrow the result has, in alphabetical order, the letters that occur once. */
function implied(left: string): string {
  const all = [...left.replaceAll('...', '').replaceAll(',', '')];
  const once = all.filter((letter) => all.indexOf(letter) === all.lastIndexOf(letter)).sort();
  return `${left.includes('...') ? '...' : ''}${once.join('')}`;
}
