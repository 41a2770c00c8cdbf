import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import { intAttribute, intsAttribute, stringAttribute } from './nodes.ts';
import type { Shape } from '../tensor/shape.ts';

/** How a convolution or pooling window slides, per spatial axis, with every default made explicit. */
export interface Windows {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  padsBefore: readonly number[];
  padsAfter: readonly number[];
  output: readonly number[];
}

/** Resolves `auto_pad`, missing attributes and rounding for a Conv or pooling node over this spatial shape. */
export function windowsOf(node: NodeProto, spatial: Shape, kernelOfWeights?: Shape): Windows {
  const kernel = intsAttribute(node, 'kernel_shape') ?? kernelOfWeights ?? [];
  const strides = intsAttribute(node, 'strides') ?? spatial.map(() => 1);
  const dilations = intsAttribute(node, 'dilations') ?? spatial.map(() => 1);
  const autoPad = stringAttribute(node, 'auto_pad', 'NOTSET');
  const pads = intsAttribute(node, 'pads') ?? spatial.flatMap(() => [0, 0]);
  const ceil = intAttribute(node, 'ceil_mode', 0) === 1;
  const axes = spatial.map((size, axis) => {
    const stride = strides[axis]!;
    const extent = (kernel[axis]! - 1) * dilations[axis]! + 1;
    if (autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER') {
      const output = Math.ceil(size / stride);
      const total = Math.max(0, (output - 1) * stride + extent - size);
      const before = autoPad === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      return { before, after: total - before, output };
    }
    const [before, after] = autoPad === 'VALID' ? [0, 0] : [pads[axis]!, pads[axis + spatial.length]!];
    const steps = (size + before + after - extent) / stride;
    let output = (ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A window that would begin in the padding behind the data is left out.
    if (ceil && (output - 1) * stride >= size + before) output -= 1;
    return { before, after, output };
  });
  return {
    kernel,
    strides,
    dilations,
    padsBefore: axes.map(({ before }) => before),
    padsAfter: axes.map(({ after }) => after),
    output: axes.map(({ output }) => output),
  };
}

/** How a ConvTranspose spreads, with every default made explicit: seen from its output it is a Conv with these windows. */
export function transposedWindowsOf(node: NodeProto, spatial: Shape, kernelOfWeights: Shape): Windows {
  const kernel = intsAttribute(node, 'kernel_shape') ?? kernelOfWeights;
  const strides = intsAttribute(node, 'strides') ?? spatial.map(() => 1);
  const dilations = intsAttribute(node, 'dilations') ?? spatial.map(() => 1);
  const pads = intsAttribute(node, 'pads') ?? spatial.flatMap(() => [0, 0]);
  const extra = intsAttribute(node, 'output_padding') ?? spatial.map(() => 0);
  const autoPad = stringAttribute(node, 'auto_pad', 'NOTSET');
  const isSame = autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER';
  const wanted = intsAttribute(node, 'output_shape')?.slice(-spatial.length);
  const axes = spatial.map((size, axis) => {
    const extent = (kernel[axis]! - 1) * dilations[axis]! + 1;
    const full = (size - 1) * strides[axis]! + extent + extra[axis]!;
    const target = wanted?.[axis] ?? (isSame ? size * strides[axis]! : undefined);
    if (target === undefined) {
      const [before, after] = autoPad === 'VALID' ? [0, 0] : [pads[axis]!, pads[axis + spatial.length]!];
      return { before, after, output: full - before - after };
    }
    const surplus = Math.max(0, full - target);
    const before = autoPad === 'SAME_UPPER' ? Math.floor(surplus / 2) : Math.ceil(surplus / 2);
    return { before, after: surplus - before, output: target };
  });
  return {
    kernel,
    strides,
    dilations,
    padsBefore: axes.map(({ before }) => before),
    padsAfter: axes.map(({ after }) => after),
    output: axes.map(({ output }) => output),
  };
}
