/** Checks gradients that a graph computes against central differences in float64. */
import type { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { sameShape } from '../../core/src/tensor/shape.ts';
import { evaluate } from './evaluate.ts';

export type Numbers = 'any' | 'positive' | 'distinct' | 'with zeros';

/** A graph with gradients of an objective, and numbers to try it with. */
export interface Differentiated {
  graph: GraphBuilder;
  /** The values whose gradients are compared. */
  names: readonly string[];
  /** Weight of each output in the objective, by the output's name. */
  seeds: ReadonlyMap<string, string>;
  found: ReadonlyMap<string, string>;
  feeds: Map<string, Float64Array>;
  /** How many channels make a block, where there are any. */
  blocks?: number;
}

/** Largest gap between analytic and central-difference gradients over all the values. */
export function worstGap({ graph, names, seeds, found, feeds, blocks }: Differentiated): number {
  const analytic = evaluate(graph, feeds, blocks);
  const objective = (): number => {
    const values = evaluate(graph, feeds, blocks);
    return [...seeds].reduce(
      (total, [y, seed]) => values.get(y)!.reduce((sum, value, index) => sum + value * feeds.get(seed)![index]!, total),
      0,
    );
  };
  let worst = 0;
  for (const name of names) {
    const x = feeds.get(name)!;
    if (!sameShape(graph.shapeOf(found.get(name)!), graph.shapeOf(name))) return Infinity;
    x.forEach((value, index) => {
      const step = 1e-5;
      const [above, below] = [value + step, value - step].map((moved) => {
        x[index] = moved;
        return objective();
      });
      x[index] = value;
      worst = Math.max(worst, Math.abs((above! - below!) / (2 * step) - analytic.get(found.get(name)!)![index]!));
    });
  }
  return worst;
}

/** Numbers away from the kinks at zero, and apart from each other where a maximum chooses among them. */
export function draw(length: number, numbers: Numbers, uniform: () => number): Float64Array {
  if (numbers === 'distinct') {
    const order = Array.from({ length }, (_, index) => ({ index, key: uniform() })).toSorted((a, b) => a.key - b.key);
    return Float64Array.from(order, ({ index }) => index * 0.01 - 0.3);
  }
  return Float64Array.from({ length }, () => {
    const size = 0.3 + uniform();
    if (numbers === 'with zeros' && uniform() < 0.3) return 0;
    return numbers === 'positive' || uniform() < 0.5 ? size : -size;
  });
}

/** Mulberry32: enough for test data. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
