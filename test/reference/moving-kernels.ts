/** Reference values of operators that pick, repeat and lay out numbers anew. */
import { contractionOf } from '../../core/src/onnx/einsum.ts';
import { intAttribute, stringAttribute } from '../../core/src/onnx/nodes.ts';
import { resizedAxes, resizeMatrix } from '../../core/src/onnx/resampling.ts';
import { cutsOf } from '../../core/src/onnx/slices.ts';
import { stridesOf, wrapAxis } from '../../core/src/tensor/shape.ts';
import { dot, each, fill } from './loops.ts';
import type { Kernel, Tensor } from './loops.ts';

const at = ({ shape, data }: Tensor, place: readonly number[]): number => data[dot(place, stridesOf(shape))]!;

export const movingKernels: Readonly<Record<string, Kernel>> = {
  Tile: ({ inputs, output }) => [
    fill(output, (place) =>
      at(
        inputs[0]!,
        place.map((spot, axis) => spot % inputs[0]!.shape[axis]!),
      ),
    ),
  ],
  Pad: ({ node, inputs, output }) => {
    const [x, pads, filling] = inputs;
    const mode = stringAttribute(node, 'mode', 'constant');
    return [
      fill(output, (place) => {
        const spot = place.map((step, axis) => step - pads!.data[axis]!);
        const isInside = spot.every((step, axis) => step >= 0 && step < x!.shape[axis]!);
        if (!isInside && mode === 'constant') return filling?.data[0] ?? 0;
        const moved = spot.map((step, axis) => {
          const last = x!.shape[axis]! - 1;
          if (mode === 'edge') return Math.max(0, Math.min(last, step));
          // One reflection at either end is all that ONNX asks for.
          return step < 0 ? -step : step > last ? 2 * last - step : step;
        });
        return at(x!, moved);
      }),
    ];
  },
  Slice: ({ node, inputs, output, graph }) => {
    const cuts = cutsOf(graph.site(node));
    return [
      fill(output, (place) => {
        const spot = [...place];
        for (const { axis, start, step } of cuts) spot[axis] = start + place[axis]! * step;
        return at(inputs[0]!, spot);
      }),
    ];
  },
  Resize: ({ node, inputs, output, graph }) => {
    const { sizes, scales } = resizedAxes(graph.site(node));
    const maps = inputs[0]!.shape.map((size, axis) => resizeMatrix(node, size, sizes[axis]!, scales[axis]!));
    return [
      fill(output, (place) => {
        let sum = 0;
        each(inputs[0]!.shape, (spot, index) => {
          const share = spot.reduce(
            (product, column, axis) => product * maps[axis]!.values[place[axis]! * maps[axis]!.columns + column]!,
            1,
          );
          sum += share * inputs[0]!.data[index]!;
        });
        return sum;
      }),
    ];
  },
  CumSum: ({ node, inputs, output }) => {
    const axis = wrapAxis(inputs[1]!.data[0]!, output.length);
    const isReverse = intAttribute(node, 'reverse', 0) === 1;
    const exclusive = intAttribute(node, 'exclusive', 0);
    return [
      fill(output, (place) => {
        let sum = 0;
        for (let step = 0; step < output[axis]!; step++) {
          const distance = isReverse ? step - place[axis]! : place[axis]! - step;
          if (distance >= exclusive) sum += at(inputs[0]!, place.with(axis, step));
        }
        return sum;
      }),
    ];
  },
  Trilu: ({ node, inputs, output }) => {
    const diagonal = inputs[1]?.data[0] ?? 0;
    const isUpper = intAttribute(node, 'upper', 1) === 1;
    return [
      fill(output, (place, index) => {
        const distance = place.at(-1)! - place.at(-2)! - diagonal;
        return (isUpper ? distance >= 0 : distance <= 0) ? inputs[0]!.data[index]! : 0;
      }),
    ];
  },
  GatherElements: ({ node, inputs, output }) => {
    const axis = wrapAxis(intAttribute(node, 'axis', 0), output.length);
    const size = inputs[0]!.shape[axis]!;
    return [fill(output, (place, index) => at(inputs[0]!, place.with(axis, wrapAxis(inputs[1]!.data[index]!, size))))];
  },
  ScatterElements: ({ node, inputs }) => {
    const [base, places, updates] = inputs;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), base!.shape.length);
    const adds = stringAttribute(node, 'reduction', 'none') === 'add';
    const result = base!.data.slice();
    each(updates!.shape, (place, index) => {
      const row = wrapAxis(places!.data[index]!, base!.shape[axis]!);
      const target = dot(place.with(axis, row), stridesOf(base!.shape));
      result[target] = (adds ? result[target]! : 0) + updates!.data[index]!;
    });
    return [result];
  },
  GatherND: ({ node, inputs, output }) => {
    const [from, places] = inputs;
    const dims = intAttribute(node, 'batch_dims', 0);
    const outer = places!.shape.length - 1;
    return [
      fill(output, (place) => {
        const row = tuple(places!, place.slice(0, outer), from!.shape.slice(dims));
        return at(from!, [...place.slice(0, dims), ...row, ...place.slice(outer)]);
      }),
    ];
  },
  ScatterND: ({ node, inputs }) => {
    const [base, places, updates] = inputs;
    const adds = stringAttribute(node, 'reduction', 'none') === 'add';
    const outer = places!.shape.length - 1;
    const result = base!.data.slice();
    each(updates!.shape, (place, index) => {
      const row = tuple(places!, place.slice(0, outer), base!.shape);
      const target = dot([...row, ...place.slice(outer)], stridesOf(base!.shape));
      result[target] = (adds ? result[target]! : 0) + updates!.data[index]!;
    });
    return [result];
  },
  Einsum: ({ node, inputs, output }) => {
    const { operands, result, sizes } = contractionOf(
      node,
      inputs.map(({ shape }) => shape),
    );
    const summed = [...sizes.keys()].filter((letter) => !result.includes(letter));
    return [
      fill(output, (place) => {
        let sum = 0;
        each(
          summed.map((letter) => sizes.get(letter)!),
          (rest) => {
            const spot = new Map([
              ...result.map((letter, axis) => [letter, place[axis]!] as const),
              ...summed.map((letter, axis) => [letter, rest[axis]!] as const),
            ]);
            sum += operands.reduce(
              (product, operand, index) =>
                product *
                at(
                  inputs[index]!,
                  operand.map((letter) => spot.get(letter)!),
                ),
              1,
            );
          },
        );
        return sum;
      }),
    ];
  },
};

/** The indices that an index tensor holds at a place. */
function tuple({ shape, data }: Tensor, place: readonly number[], sizes: readonly number[]): number[] {
  const start = dot([...place, 0], stridesOf(shape));
  return Array.from({ length: shape.at(-1)! }, (_, index) => wrapAxis(data[start + index]!, sizes[index]!));
}
