import { OnnxError } from './errors.ts';
import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import { floatAttribute, intAttribute, stringAttribute } from './nodes.ts';
import { hasInput, requiredIntegers } from './shape-rule.ts';
import type { ShapeSite } from './shape-rule.ts';

/** A linear map along one axis: `rows` numbers come from `columns` numbers. */
export interface AxisMatrix {
  rows: number;
  columns: number;
  values: Float32Array;
}

/** Sizes of a Resize's output and how much longer each axis becomes. */
export function resizedAxes(site: ShapeSite): { sizes: number[]; scales: number[] } {
  const { shape } = site.inputs[0]!;
  if (hasInput(site.node, 3)) {
    const sizes = [...requiredIntegers(site, 3)];
    return { sizes, scales: sizes.map((size, axis) => size / shape[axis]!) };
  }
  const scales = site.floats(2);
  if (scales === undefined || scales.length !== shape.length) {
    throw new OnnxError(
      `node '${site.node.name}' (Resize) computes its scales at run time; export the model with fixed shapes`,
    );
  }
  return { sizes: shape.map((size, axis) => Math.floor(size * scales[axis]!)), scales: [...scales] };
}

/** What a Resize does along one axis: it is linear, and a product of one such map per axis. */
export function resizeMatrix(node: NodeProto, columns: number, rows: number, scale: number): AxisMatrix {
  const mode = stringAttribute(node, 'mode', 'nearest');
  const isAntialiased = intAttribute(node, 'antialias', 0) === 1;
  const taps = Object.hasOwn(tapsOf, mode) && !isAntialiased ? tapsOf[mode] : undefined;
  if (taps === undefined) {
    throw unknown(node, isAntialiased ? 'is antialiased' : `has mode '${mode}'`, 'nearest, linear or cubic without it');
  }
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (const { at, weight } of taps(sourceOf(node, row, columns, rows, scale), node, columns)) {
      // Beyond the edge the last number is repeated.
      const cell = row * columns + Math.max(0, Math.min(columns - 1, at));
      values[cell] = values[cell]! + weight;
    }
  }
  return { rows, columns, values };
}

/** Where a number of the output lies in the input, under ONNX's name for the way of counting. */
function sourceOf(node: NodeProto, row: number, columns: number, rows: number, scale: number): number {
  const mode = stringAttribute(node, 'coordinate_transformation_mode', 'half_pixel');
  switch (mode) {
    case 'half_pixel':
      return (row + 0.5) / scale - 0.5;
    case 'pytorch_half_pixel':
      return rows > 1 ? (row + 0.5) / scale - 0.5 : 0;
    case 'half_pixel_symmetric': {
      const centre = (columns / 2) * (1 - rows / (scale * columns));
      return centre + (row + 0.5) / scale - 0.5;
    }
    case 'asymmetric':
      return row / scale;
    case 'align_corners':
      return rows === 1 ? 0 : (row * (columns - 1)) / (rows - 1);
    default:
      throw unknown(node, `counts by '${mode}'`, 'half_pixel, asymmetric or align_corners');
  }
}

interface Tap {
  at: number;
  weight: number;
}

const tapsOf: Readonly<Record<string, (source: number, node: NodeProto, columns: number) => Tap[]>> = {
  nearest: (source, node) => [{ at: nearest(source, stringAttribute(node, 'nearest_mode', '')), weight: 1 }],
  linear: (source) => {
    const at = Math.floor(source);
    return [
      { at, weight: 1 - (source - at) },
      { at: at + 1, weight: source - at },
    ];
  },
  // Keys 1981.
  cubic: (source, node, columns) => {
    const a = floatAttribute(node, 'cubic_coeff_a', -0.75);
    const first = Math.floor(source) - 1;
    const taps = Array.from({ length: 4 }, (_, index) => {
      const distance = Math.abs(source - (first + index));
      const near = ((a + 2) * distance - (a + 3)) * distance * distance + 1;
      const far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
      return { at: first + index, weight: distance <= 1 ? near : far };
    });
    if (intAttribute(node, 'exclude_outside', 0) === 0) return taps;
    const within = taps.filter(({ at }) => at >= 0 && at < columns);
    const total = within.reduce((sum, { weight }) => sum + weight, 0);
    return within.map(({ at, weight }) => ({ at, weight: weight / total }));
  },
};

function nearest(source: number, mode: string): number {
  switch (mode) {
    case 'floor':
      return Math.floor(source);
    case 'ceil':
      return Math.ceil(source);
    case 'round_prefer_ceil':
      return Math.floor(source + 0.5);
    default:
      return Math.ceil(source - 0.5);
  }
}

function unknown(node: NodeProto, what: string, mend: string): OnnxError {
  return new OnnxError(`node '${node.name}' (${node.opType}) ${what}, which training does not read; use ${mend}`);
}

/** What Pad in mode reflect or edge does along one axis; zeros are no map of the input and not written here. */
export function padMatrix(node: NodeProto, mode: string, columns: number, before: number, after: number): AxisMatrix {
  const rows = before + columns + after;
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) values[row * columns + padSource(node, mode, row - before, columns)] = 1;
  return { rows, columns, values };
}

function padSource(node: NodeProto, mode: string, at: number, size: number): number {
  switch (mode) {
    case 'edge':
      return Math.max(0, Math.min(size - 1, at));
    case 'reflect': {
      const period = Math.max(1, 2 * (size - 1));
      const within = ((at % period) + period) % period;
      return within < size ? within : period - within;
    }
    default:
      throw unknown(node, `has mode '${mode}'`, 'constant, reflect or edge');
  }
}
