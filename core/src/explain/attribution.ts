import type { AttributionGraph } from './attribution-graph.ts';
import type { PathPoint } from './path.ts';

/** One run of an attribution graph: what its inputs of positions and shares hold. */
export interface AttributionRun {
  positions: Float32Array;
  shares: Float32Array;
}

/** What an explanation says of one value of an output. */
export interface Attribution {
  /** By input: how much each of its numbers, or tokens, adds to the answer. */
  attributions: ReadonlyMap<string, Float64Array>;
  /** The explained value at the example. */
  value: number;
  /** The same at the baseline. */
  baselineValue: number;
  /**
   * By how much the attributions' sum misses the difference of the two: the completeness axiom says that it is zero for integrated gradients,
   * so what is left is what more steps would mend. Gradient x input has no such axiom.
   */
  gap: number;
}

/**
 * The runs that a path takes. Both ends are among the points, with no share in the integral, because the difference of the answers there is
 * what the attributions must add up to.
 */
export function attributionRuns(
  { points }: Pick<AttributionGraph, 'points'>,
  path: readonly PathPoint[],
): AttributionRun[] {
  const all = [{ position: 0, share: 0 }, { position: 1, share: 0 }, ...path];
  const runs: AttributionRun[] = [];
  for (let start = 0; start < all.length; start += points) {
    const part = all.slice(start, start + points);
    const at = (key: keyof PathPoint): Float32Array => {
      const values = new Float32Array(points);
      part.forEach((point, index) => (values[index] = point[key]));
      return values;
    };
    runs.push({ positions: at('position'), shares: at('share') });
  }
  return runs;
}

/** Adds up what the runs gave, in their order. */
export class AttributionSum {
  readonly #graph: AttributionGraph;
  readonly #index: number;
  readonly #sums: Map<string, Float64Array> = new Map();
  readonly #ends: number[] = [];

  /** `index` is the place of the explained value among those of one example. */
  constructor(graph: AttributionGraph, index: number) {
    this.#graph = graph;
    this.#index = index;
  }

  /** Takes the outputs of one run, by the graph's names. */
  add(outputs: Readonly<Record<string, ArrayLike<number>>>): void {
    const { inputs, output, points } = this.#graph;
    const answers = outputs[output.graphName]!;
    for (let point = 0; point < points && this.#ends.length < 2; point++) {
      this.#ends.push(answers[point * output.values + this.#index]!);
    }
    for (const { name, attribution } of inputs) {
      if (attribution === undefined) continue;
      const part = outputs[attribution]!;
      const sum = this.#sums.get(name) ?? new Float64Array(part.length);
      for (let index = 0; index < part.length; index++) sum[index]! += part[index]!;
      this.#sums.set(name, sum);
    }
  }

  result(): Attribution {
    const [baselineValue = NaN, value = NaN] = this.#ends;
    let total = 0;
    for (const sum of this.#sums.values()) for (const each of sum) total += each;
    return { attributions: this.#sums, value, baselineValue, gap: total - (value - baselineValue) };
  }
}
