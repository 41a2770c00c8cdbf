/** The exact GELU as one node: the same value and gradient as by its parts, in whatever order these were written. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { differentiate } from './backward.ts';
import { writeGelus } from './gelu.ts';

interface Writing {
  /** x/√2 by a division. */
  divides: boolean;
  /** What is halved: x, 1 + erf, or their product. */
  halved: 'x' | 'sum' | 'product';
  /** By a division by 2. */
  halves: boolean;
  /** The constant, the sum or x first. */
  turned: boolean;
  /** √2 is another number, so that it is no GELU. */
  isOther: boolean;
}

const writing: fc.Arbitrary<Writing> = fc.record({
  divides: fc.boolean(),
  halved: fc.constantFrom('x', 'sum', 'product'),
  halves: fc.boolean(),
  turned: fc.boolean(),
  isOther: fc.boolean(),
});
const SHAPE = [2, 3];

/** Value and gradient by x, and how many nodes it took. */
function computed(how: Writing, x: Float32Array, isWhole: boolean): { values: number[][]; nodes: number } {
  const graph = new GraphBuilder('test/');
  graph.input('x', SHAPE);
  const both = (operator: string, a: string, b: string, output?: string): string =>
    graph.emit(operator, how.turned ? [b, a] : [a, b], {}, output);
  const half = (value: string, output?: string): string =>
    how.halves
      ? graph.emit('Div', [value, graph.scalar(2)], {}, output)
      : both('Mul', value, graph.scalar(0.5), output);
  const root = how.isOther ? 1.5 : Math.SQRT2;
  const inner = how.divides ? graph.emit('Div', ['x', graph.scalar(root)]) : both('Mul', 'x', graph.scalar(1 / root));
  const sum = both('Add', graph.emit('Erf', [inner]), graph.scalar(1));
  if (how.halved === 'product') half(both('Mul', 'x', sum), 'y');
  else if (how.halved === 'x') both('Mul', half('x'), sum, 'y');
  else both('Mul', 'x', half(sum), 'y');
  const forward = isWhole ? writeGelus(graph, 0, [...graph.nodes]) : [...graph.nodes];
  const seed = graph.floats(
    Float32Array.from({ length: 6 }, (_, at) => at - 2.5),
    SHAPE,
  );
  const found = differentiate(graph, forward, new Map([['y', seed]]), ['x']);
  const values = evaluate(graph, new Map([['x', Float64Array.from(x)]]));
  return { values: ['y', found.get('x')!].map((name) => [...values.get(name)!]), nodes: graph.nodes.length };
}

test('in any order of its products, and what only looks like it is left as it is', () => {
  const numbers = fc.float32Array({ minLength: 6, maxLength: 6, min: -6, max: 6, noNaN: true });
  fc.assert(
    fc.property(writing, numbers, (how, x) => {
      const [parts, whole] = [computed(how, x, false), computed(how, x, true)];
      whole.values.forEach((row, index) =>
        row.forEach((value, at) => expect(value).toBeCloseTo(parts.values[index]![at]!, 6)),
      );
      if (how.isOther) expect(whole.nodes).toBe(parts.nodes);
      else expect(whole.nodes).toBeLessThan(parts.nodes);
    }),
  );
});
