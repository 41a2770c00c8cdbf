import type { Tensor } from '../runtime/tensor.ts';
import type { Inputs } from './inputs.ts';

/** A reference batch that a version has to answer well before it serves. */
export interface Golden {
  inputs: Inputs;
  /** Outputs that are wanted, each value within `tolerance` (0.1 of nothing said, absolute). */
  outputs?: Record<string, readonly number[]>;
  tolerance?: number;
  /** Or the app's own verdict: why these outputs will not do; undefined where they will. */
  refuse?: (outputs: Record<string, Tensor>) => string | undefined;
}

/** Why a version's answer to the reference batch will not do. */
export function goldenFault(golden: Golden, outputs: Record<string, Tensor>): string | undefined {
  const { tolerance = 0.1, refuse } = golden;
  for (const [name, wanted] of Object.entries(golden.outputs ?? {})) {
    const data = outputs[name]?.data;
    if (data?.length !== wanted.length)
      return `output '${name}' has ${data?.length ?? 'no'} values, not ${wanted.length}`;
    const worst = Math.max(...wanted.map((value, i) => Math.abs(Number(data[i]) - value)));
    if (!(worst <= tolerance)) return `output '${name}' is off by ${worst}, and ${tolerance} is allowed`;
  }
  return refuse?.(outputs);
}
