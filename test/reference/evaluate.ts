/** A second opinion on ONNX operators: float64 and naive loops, to check gradients by finite differences. */
import { blockedDomain } from '../../core/src/autodiff/blocked-convolution.ts';
import type { NodeProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { findAttribute, floatAttribute, intAttribute } from '../../core/src/onnx/nodes.ts';
import { permutationOf, reducedAxes } from '../../core/src/onnx/shapes.ts';
import { floatValues, integerValues } from '../../core/src/onnx/tensor-data.ts';
import { transposedWindowsOf, windowsOf } from '../../core/src/onnx/windows.ts';
import { sizeOf, stridesOf, wrapAxis } from '../../core/src/tensor/shape.ts';
import type { Shape } from '../../core/src/tensor/shape.ts';
import { blockedKernels } from './blocked-kernels.ts';
import { dot, each, fill, inside } from './loops.ts';
import type { Call, Kernel, Tensor } from './loops.ts';
import { movingKernels } from './moving-kernels.ts';

/** Values of everything the graph computes from these inputs, by name. `blocks` is how many channels make one, where it has any. */
export function evaluate(
  graph: GraphBuilder,
  feeds: ReadonlyMap<string, Float64Array>,
  blocks = 1,
): Map<string, Float64Array> {
  const blocked = blockedKernels(blocks, kernels['Conv']!);
  const values = new Map(feeds);
  for (const tensor of graph.initializers) {
    const numbers = tensor.dataType === 1 ? floatValues(tensor) : integerValues(tensor);
    values.set(tensor.name, Float64Array.from(numbers));
  }
  for (const node of graph.nodes) {
    const inputs = node.input.map((name) =>
      name === '' ? { shape: [], data: new Float64Array() } : { shape: graph.shapeOf(name), data: values.get(name)! },
    );
    const kernel = (node.domain === blockedDomain ? blocked : kernels)[node.opType];
    if (kernel === undefined) throw new Error(`the reference cannot evaluate ${node.opType}`);
    const results = kernel({ node, inputs, output: graph.shapeOf(node.output[0]!), graph });
    node.output.forEach((name, index) => values.set(name, results[index]!));
  }
  return values;
}

const unary =
  (change: (x: number, node: NodeProto) => number): Kernel =>
  ({ node, inputs }) => [inputs[0]!.data.map((x) => change(x, node))];

const combine =
  (change: (...numbers: number[]) => number): Kernel =>
  ({ inputs, output }) => {
    const readers = inputs.map((input) => broadcastReader(input, output));
    return [Float64Array.from({ length: sizeOf(output) }, (_, index) => change(...readers.map((read) => read(index))))];
  };

const copy: Kernel = ({ inputs }) => [inputs[0]!.data.slice()];

const kernels: Readonly<Record<string, Kernel>> = {
  ...movingKernels,
  ConstantOfShape: ({ node, output }) => {
    const value = findAttribute(node, 'value')?.t;
    const [number = 0] = value === undefined ? [] : value.dataType === 1 ? floatValues(value) : integerValues(value);
    return [new Float64Array(sizeOf(output)).fill(number)];
  },
  Identity: copy,
  Dropout: copy,
  Cast: copy,
  Reshape: copy,
  Flatten: copy,
  Squeeze: copy,
  Unsqueeze: copy,
  Not: unary((x) => Number(x === 0)),
  Neg: unary((x) => -x),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Sqrt: unary(Math.sqrt),
  Abs: unary(Math.abs),
  Sign: unary(Math.sign),
  Relu: unary((x) => Math.max(0, x)),
  LeakyRelu: unary((x, node) => (x > 0 ? x : x * floatAttribute(node, 'alpha', 0.01))),
  Sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  Tanh: unary(Math.tanh),
  Add: combine((a, b) => a! + b!),
  Sub: combine((a, b) => a! - b!),
  Mul: combine((a, b) => a! * b!),
  Div: combine((a, b) => a! / b!),
  Pow: combine((a, b) => a! ** b!),
  Max: combine(Math.max),
  Min: combine(Math.min),
  Reciprocal: unary((x) => 1 / x),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Erf: unary(erf),
  Elu: unary((x, node) => (x > 0 ? x : floatAttribute(node, 'alpha', 1) * (Math.exp(x) - 1))),
  Selu: unary((x, node) => {
    const gamma = floatAttribute(node, 'gamma', 1.0507009873554805);
    return gamma * (x > 0 ? x : floatAttribute(node, 'alpha', 1.6732632423543772) * (Math.exp(x) - 1));
  }),
  Softplus: unary((x) => Math.log1p(Math.exp(x))),
  Softsign: unary((x) => x / (1 + Math.abs(x))),
  HardSigmoid: unary((x, node) =>
    Math.max(0, Math.min(1, floatAttribute(node, 'alpha', 0.2) * x + floatAttribute(node, 'beta', 0.5))),
  ),
  HardSwish: unary((x) => (x * Math.max(0, Math.min(6, x + 3))) / 6),
  PRelu: combine((x, slope) => (x! > 0 ? x! : x! * slope!)),
  Clip: combine((x, least, most) => Math.min(Math.max(x!, least ?? -Infinity), most ?? Infinity)),
  Less: combine((a, b) => Number(a! < b!)),
  Equal: combine((a, b) => Number(a! === b!)),
  Greater: combine((a, b) => Number(a! > b!)),
  Where: combine((condition, a, b) => (condition === 1 ? a! : b!)),
  Expand: ({ inputs, output }) => {
    const read = broadcastReader(inputs[0]!, output);
    return [Float64Array.from({ length: sizeOf(output) }, (_, index) => read(index))];
  },
  Softmax: (call) => [alongAxis(call, (row) => softmax(row))],
  LogSoftmax: (call) => [alongAxis(call, (row) => softmax(row).map(Math.log))],
  Transpose: ({ node, inputs, output }) => {
    const strides = stridesOf(inputs[0]!.shape);
    const perm = permutationOf(node, output.length);
    return [
      fill(
        output,
        (place) =>
          inputs[0]!.data[
            dot(
              place,
              perm.map((axis) => strides[axis]!),
            )
          ]!,
      ),
    ];
  },
  Concat: ({ node, inputs, output }) => {
    const axis = wrapAxis(intAttribute(node, 'axis', 0), output.length);
    return [
      fill(output, (place) => {
        const within = [...place];
        for (const { shape, data } of inputs) {
          if (within[axis]! < shape[axis]!) return data[dot(within, stridesOf(shape))]!;
          within[axis] = within[axis]! - shape[axis]!;
        }
        return Number.NaN;
      }),
    ];
  },
  OneHot: ({ inputs, output }) => {
    const [off, on] = inputs[2]!.data;
    return [fill(output, ([row, column]) => (inputs[0]!.data[row!] === column ? on! : off!))];
  },
  ReduceSum: (call) => [reduce(call)],
  ReduceSumSquare: (call) => [reduce(call, (sum, x) => sum + x * x)],
  ReduceL2: (call) => [reduce(call, (sum, x) => sum + x * x).map(Math.sqrt)],
  ReduceLogSumExp: (call) => [reduce(call, (sum, x) => sum + Math.exp(x)).map(Math.log)],
  ReduceL1: (call) => [reduce(call, (sum, x) => sum + Math.abs(x))],
  ReduceLogSum: (call) => [reduce(call).map(Math.log)],
  ReduceProd: (call) => [reduce(call, (product, x) => product * x, 1)],
  ReduceMax: (call) => [reduce(call, Math.max, -Infinity)],
  ReduceMin: (call) => [reduce(call, Math.min, Infinity)],
  Split: ({ node, inputs, graph }) => {
    const { shape, data } = inputs[0]!;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
    let start = 0;
    return node.output.map((name) => {
      const piece = graph.shapeOf(name);
      const from = start;
      start += piece[axis]!;
      return fill(piece, (place) => {
        const source = place.map((at, dimension) => (dimension === axis ? at + from : at));
        return data[dot(source, stridesOf(shape))]!;
      });
    });
  },
  Gather: ({ node, inputs, output }) => {
    const [from, places] = inputs;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), from!.shape.length);
    return [
      fill(output, (place) => {
        const at = place.slice(axis, axis + places!.shape.length);
        const row = wrapAxis(places!.data[dot(at, stridesOf(places!.shape))]!, from!.shape[axis]!);
        const source = [...place.slice(0, axis), row, ...place.slice(axis + places!.shape.length)];
        return from!.data[dot(source, stridesOf(from!.shape))]!;
      }),
    ];
  },
  LayerNormalization: (call) => {
    const { node, inputs, output } = call;
    const [x, scale, bias] = inputs;
    const first = wrapAxis(intAttribute(node, 'axis', -1), output.length);
    const width = sizeOf(output.slice(first));
    const normal = normalize(x!.data, width, floatAttribute(node, 'epsilon', 1e-5));
    return [normal.map((value, index) => value * scale!.data[index % width]! + (bias?.data[index % width] ?? 0))];
  },
  InstanceNormalization: ({ node, inputs, output }) => {
    const [x, scale, bias] = inputs;
    const width = sizeOf(output.slice(2));
    const channel = (index: number): number => Math.floor(index / width) % output[1]!;
    const normal = normalize(x!.data, width, floatAttribute(node, 'epsilon', 1e-5));
    return [normal.map((value, index) => value * scale!.data[channel(index)]! + bias!.data[channel(index)]!)];
  },
  BatchNormalization: ({ node, inputs, output }) => {
    const [x, scale, bias, mean, variance] = inputs;
    const width = sizeOf(output.slice(2));
    const epsilon = floatAttribute(node, 'epsilon', 1e-5);
    return [
      x!.data.map((value, index) => {
        const c = Math.floor(index / width) % output[1]!;
        return ((value - mean!.data[c]!) / Math.sqrt(variance!.data[c]! + epsilon)) * scale!.data[c]! + bias!.data[c]!;
      }),
    ];
  },
  ReduceMean: (call) => {
    const count = sizeOf(call.inputs[0]!.shape) / sizeOf(call.output);
    return [reduce(call).map((sum) => sum / count)];
  },
  Gemm: ({ node, inputs, output }) => {
    const [a, b, c] = inputs;
    const [transA, transB] = [intAttribute(node, 'transA', 0), intAttribute(node, 'transB', 0)];
    const [alpha, beta] = [floatAttribute(node, 'alpha', 1), floatAttribute(node, 'beta', 1)];
    const depth = a!.shape[1 - transA]!;
    const readC = c === undefined ? () => 0 : broadcastReader(c, output);
    return [
      fill(output, ([row, column], index) => {
        let sum = 0;
        for (let k = 0; k < depth; k++) {
          const left = transA === 1 ? [k, row!] : [row!, k];
          const right = transB === 1 ? [column!, k] : [k, column!];
          sum += a!.data[dot(left, stridesOf(a!.shape))]! * b!.data[dot(right, stridesOf(b!.shape))]!;
        }
        return alpha * sum + beta * readC(index);
      }),
    ];
  },
  MatMul: ({ inputs }) => {
    const [a, b] = inputs;
    const left = a!.shape.length === 1 ? [1, ...a!.shape] : a!.shape;
    const right = b!.shape.length === 1 ? [...b!.shape, 1] : b!.shape;
    const rank = Math.max(left.length, right.length);
    const batch = Array.from({ length: rank - 2 }, (_, axis) =>
      Math.max(left[axis - rank + left.length] ?? 1, right[axis - rank + right.length] ?? 1),
    );
    const read = (tensor: Tensor, shape: Shape, place: number[]): number => {
      const own = place.slice(rank - shape.length).map((at, axis) => (shape[axis] === 1 ? 0 : at));
      return tensor.data[dot(own, stridesOf(shape))]!;
    };
    return [
      fill([...batch, left.at(-2)!, right.at(-1)!], (place) => {
        const [head, row, column] = [place.slice(0, -2), place.at(-2)!, place.at(-1)!];
        let sum = 0;
        for (let k = 0; k < left.at(-1)!; k++) {
          sum += read(a!, left, [...head, row, k]) * read(b!, right, [...head, k, column]);
        }
        return sum;
      }),
    ];
  },
  Conv: ({ node, inputs, output }) => {
    const [x, w, bias] = inputs;
    const result = new Float64Array(sizeOf(output));
    const windows = windowsOf(node, x!.shape.slice(2), w!.shape.slice(2));
    const group = intAttribute(node, 'group', 1);
    const [perGroup, filters] = [w!.shape[1]!, w!.shape[0]! / group];
    each(output, (place, index) => {
      const [n, m, ...at] = place;
      let sum = bias?.data[m!] ?? 0;
      each(w!.shape.slice(1), ([c, ...tap]) => {
        const spot = at.map(
          (step, axis) =>
            step * windows.strides[axis]! - windows.padsBefore[axis]! + tap[axis]! * windows.dilations[axis]!,
        );
        if (!inside(spot, x!.shape.slice(2))) return;
        const channel = Math.floor(m! / filters) * perGroup + c!;
        sum +=
          x!.data[dot([n!, channel, ...spot], stridesOf(x!.shape))]! *
          w!.data[dot([m!, c!, ...tap], stridesOf(w!.shape))]!;
      });
      result[index] = sum;
    });
    return [result];
  },
  ConvTranspose: ({ node, inputs, output }) => {
    const [x, w, bias] = inputs;
    const { strides, dilations, padsBefore: pads } = transposedWindowsOf(node, x!.shape.slice(2), w!.shape.slice(2));
    const group = intAttribute(node, 'group', 1);
    const [perGroup, channels] = [w!.shape[1]!, x!.shape[1]! / group];
    const result = fill(output, ([, m]) => bias?.data[m!] ?? 0);
    each(x!.shape, ([n, c, ...at], index) => {
      each(w!.shape.slice(1), ([m, ...tap]) => {
        const spot = at.map((step, axis) => step * strides[axis]! - pads[axis]! + tap[axis]! * dilations[axis]!);
        if (!inside(spot, output.slice(2))) return;
        const target = dot([n!, Math.floor(c! / channels) * perGroup + m!, ...spot], stridesOf(output));
        result[target] = result[target]! + x!.data[index]! * w!.data[dot([c!, m!, ...tap], stridesOf(w!.shape))]!;
      });
    });
    return [result];
  },
  MaxPool: (call) => {
    const best = new Float64Array(sizeOf(call.output)).fill(-Infinity);
    const where = new Float64Array(sizeOf(call.output));
    eachTap(call, (index, source, x) => {
      if (source === undefined || x <= best[index]!) return;
      best[index] = x;
      where[index] = source;
    });
    return [best, where];
  },
  AveragePool: (call) => {
    const sums = new Float64Array(sizeOf(call.output));
    const counts = new Float64Array(sizeOf(call.output));
    const countsPadding = intAttribute(call.node, 'count_include_pad', 0) === 1;
    eachTap(call, (index, source, x) => {
      sums[index] = sums[index]! + x;
      if (source !== undefined || countsPadding) counts[index] = counts[index]! + 1;
    });
    return [sums.map((sum, index) => sum / counts[index]!)];
  },
  GlobalAveragePool: ({ inputs }) => {
    const { shape, data } = inputs[0]!;
    const area = sizeOf(shape.slice(2));
    const planes = new Float64Array(shape[0]! * shape[1]!);
    data.forEach((x, index) => (planes[Math.floor(index / area)] = planes[Math.floor(index / area)]! + x / area));
    return [planes];
  },
  MaxUnpool: ({ inputs, output }) => {
    const result = new Float64Array(sizeOf(output));
    inputs[1]!.data.forEach((place, index) => (result[place] = inputs[0]!.data[index]!));
    return [result];
  },
};

/** Numbers in rows of `width` with mean 0 and variance 1. */
function normalize(data: Float64Array, width: number, epsilon: number): Float64Array {
  const result = data.slice();
  for (let start = 0; start < data.length; start += width) {
    const row = data.subarray(start, start + width);
    const mean = row.reduce((sum, x) => sum + x, 0) / width;
    const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / width;
    row.forEach((x, index) => (result[start + index] = (x - mean) / Math.sqrt(variance + epsilon)));
  }
  return result;
}

/** The error function by its Taylor series, which converges everywhere; exact enough for the small numbers of these tests. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function reduce(
  { node, inputs, graph }: Call,
  combine: (sum: number, x: number) => number = (sum, x) => sum + x,
  from = 0,
): Float64Array {
  const { shape, data } = inputs[0]!;
  const axes = reducedAxes(graph.site(node));
  const kept = shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const strides = stridesOf(kept);
  const sums = new Float64Array(sizeOf(kept)).fill(from);
  each(shape, (place, index) => {
    const target = dot(
      place.map((at, axis) => (kept[axis] === 1 ? 0 : at)),
      strides,
    );
    sums[target] = combine(sums[target]!, data[index]!);
  });
  return sums;
}

function alongAxis({ node, inputs }: Call, change: (row: number[]) => number[]): Float64Array {
  const { shape, data } = inputs[0]!;
  const axis = wrapAxis(intAttribute(node, 'axis', -1), shape.length);
  const stride = stridesOf(shape)[axis]!;
  const result = new Float64Array(data.length);
  each(shape, (place, index) => {
    if (place[axis] !== 0) return;
    const places = Array.from({ length: shape[axis]! }, (_, step) => index + step * stride);
    change(places.map((at) => data[at]!)).forEach((value, step) => (result[places[step]!] = value));
  });
  return result;
}

function softmax(row: number[]): number[] {
  const total = row.reduce((sum, x) => sum + Math.exp(x), 0);
  return row.map((x) => Math.exp(x) / total);
}

/** Calls back for each window and tap; `source` is undefined in the padding. */
function eachTap(
  { node, inputs, output }: Call,
  visit: (index: number, source: number | undefined, x: number) => void,
): void {
  const { shape, data } = inputs[0]!;
  const spatial = shape.slice(2);
  const windows = windowsOf(node, spatial);
  each(output, ([n, c, ...at], index) => {
    each(windows.kernel, (tap) => {
      const spot = at.map(
        (step, axis) =>
          step * windows.strides[axis]! - windows.padsBefore[axis]! + tap[axis]! * windows.dilations[axis]!,
      );
      const isInside = inside(spot, spatial);
      const source = isInside ? dot([n!, c!, ...spot], stridesOf(shape)) : undefined;
      const isPadding = spot.every((s, axis) => s < spatial[axis]! + windows.padsAfter[axis]!);
      if (isInside || isPadding) visit(index, source, source === undefined ? 0 : data[source]!);
    });
  });
}

function broadcastReader({ shape, data }: Tensor, output: Shape): (index: number) => number {
  const strides = stridesOf(shape);
  const outputStrides = stridesOf(output);
  const missing = output.length - shape.length;
  return (index) => {
    let source = 0;
    for (let axis = 0; axis < shape.length; axis++) {
      const at = Math.floor(index / outputStrides[axis + missing]!) % output[axis + missing]!;
      if (shape[axis] !== 1) source += at * strides[axis]!;
    }
    return data[source]!;
  };
}
