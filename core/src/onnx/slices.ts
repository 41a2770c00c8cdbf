import { hasInput, requiredIntegers } from './shape-rule.ts';
import type { ShapeSite } from './shape-rule.ts';
import { wrapAxis } from '../tensor/shape.ts';

/** What a Slice cuts along one axis, in plain numbers. */
export interface Cut {
  axis: number;
  start: number;
  step: number;
  /** How many are taken. */
  length: number;
}

/** What a Slice takes along each axis it names; beginnings and ends outside of the data are moved to its edge, as ONNX has it. */
export function cutsOf(site: ShapeSite): Cut[] {
  const { shape } = site.inputs[0]!;
  const starts = requiredIntegers(site, 1);
  const ends = requiredIntegers(site, 2);
  const axes = hasInput(site.node, 3) ? requiredIntegers(site, 3) : starts.map((_, axis) => axis);
  const steps = hasInput(site.node, 4) ? requiredIntegers(site, 4) : starts.map(() => 1);
  return axes.map((given, index) => {
    const axis = wrapAxis(given, shape.length);
    const size = shape[axis]!;
    const step = steps[index]!;
    const [least, most] = step > 0 ? [0, size] : [-1, size - 1];
    // The end may be a huge number that means the last one.
    const place = (at: number): number => Math.min(most, Math.max(least, at < 0 ? at + size : at));
    const start = Math.max(0, place(starts[index]!));
    return { axis, start, step, length: Math.max(0, Math.ceil((place(ends[index]!) - start) / step)) };
  });
}
