import { graphOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeNode } from '../onnx/nodes.ts';
import type { Range } from './affine.ts';
import { withOutputs } from './calibration.ts';
import { QuantizeError } from './errors.ts';
import { GraphView, isStandard, labelOf } from './graph-view.ts';
import { activatedOutput } from './placement.ts';
import { prepare } from './prepare.ts';
import { quantizeModel } from './quantize.ts';
import type { QuantizedForm, QuantizeOptions } from './quantize.ts';
import type { LayerId } from './select.ts';

/** How well one quantized layer follows the float layer when both read the same exact input. */
export interface LayerNoise extends LayerId {
  /** Signal to quantization noise in decibels; infinite where there is no difference. */
  sqnrDb: number;
}

/** A float model with a quantized twin beside every layer, and the power of each difference as an output. */
export interface NoiseProbe {
  model: ModelProto;
  layers: readonly (LayerId & { signal: string; noise: string })[];
}

/** One model that measures all layers in one run. */
export function noiseProbe(model: ModelProto, form: QuantizedForm, options: QuantizeOptions = {}): NoiseProbe {
  const { model: prepared } = prepare(model);
  const graph = graphOf(prepared);
  const view = new GraphView(graph);
  const quantized = new Set(quantizeModel(model, form, options).layers.map(({ node }) => node));
  const ranges = new Map<string, Range>(options.ranges);
  const only = new Set<string>();
  const twins: NodeProto[] = [];
  const measured = graph.node
    .filter((node) => isMeasured(node) && quantized.has(labelOf(node)))
    .map((node) => {
      const value = activatedOutput(node, view);
      const twin = view.freshName(`${value}_twin`);
      const raw = value === node.output[0] ? twin : view.freshName(`${node.output[0]}_twin`);
      const copy = { ...node, name: view.freshName(`${labelOf(node)}_twin`), output: [raw] };
      twins.push(copy);
      only.add(copy.name);
      if (raw !== twin) {
        const clamp = view.maker(value)!;
        twins.push({ ...clamp, name: twin, input: [raw, ...clamp.input.slice(1)], output: [twin] });
      }
      const range = ranges.get(value);
      if (range !== undefined) ranges.set(twin, range);
      return { node: labelOf(node), operator: node.opType, value, twin };
    });
  const twinNames = measured.map(({ twin }) => twin);
  const paired = withOutputs({ ...prepared, graph: { ...graph, node: [...graph.node, ...twins] } }, twinNames);
  const probe = quantizeModel(paired, form, { ...options, only, ranges }).model;
  const probeGraph = graphOf(probe);
  const names = new GraphView(probeGraph);
  const nodes: NodeProto[] = [];
  const layers = measured.map(({ node, operator, value, twin }) => {
    const [difference, signal, noise] = ['difference', 'signal', 'noise'].map((part) =>
      names.freshName(`${twin}_${part}`),
    ) as [string, string, string];
    nodes.push(
      makeNode('Sub', [value, twin], [difference]),
      makeNode('ReduceSumSquare', [value], [signal], { keepdims: 0 }),
      makeNode('ReduceSumSquare', [difference], [noise], { keepdims: 0 }),
    );
    return { node, operator, signal, noise };
  });
  const output = probeGraph.output.filter(({ name }) => !twinNames.includes(name));
  const whole = { ...probe, graph: { ...probeGraph, node: [...probeGraph.node, ...nodes], output } };
  return {
    model: withOutputs(
      whole,
      layers.flatMap(({ signal, noise }) => [signal, noise]),
    ),
    layers,
  };
}

/** The layers with weights; of an LSTM that only hands on its last state nothing can be compared. */
function isMeasured(node: NodeProto): boolean {
  return isStandard(node, 'Conv', 'Gemm', 'MatMul', 'Gather', 'LSTM') && node.output[0] !== '';
}

/** Adds up what a probe says over many runs. */
export class NoiseMeter {
  readonly #layers: NoiseProbe['layers'];
  readonly #powers: Map<string, number> = new Map();

  constructor({ layers }: NoiseProbe) {
    this.#layers = layers;
  }

  /** Takes the outputs of one run of the probe. */
  add(tensors: ReadonlyMap<string, Float32Array>): void {
    for (const { signal, noise } of this.#layers) {
      for (const name of [signal, noise]) {
        this.#powers.set(name, (this.#powers.get(name) ?? 0) + (tensors.get(name)?.[0] ?? 0));
      }
    }
  }

  /** The layers, noisiest first. */
  report(): LayerNoise[] {
    return this.#layers
      .map(({ node, operator, signal, noise }) => ({
        node,
        operator,
        sqnrDb: decibels(this.#powers.get(signal) ?? 0, this.#powers.get(noise) ?? 0),
      }))
      .sort((a, b) => a.sqnrDb - b.sqnrDb);
  }
}

export function decibels(signal: number, noise: number): number {
  return noise === 0 ? Infinity : 10 * Math.log10(signal / noise);
}

/**
 * Leaves out as few of the noisiest layers as it takes, supposing that leaving out more never harms: about
 * `log2(layers)` trials. Answers the layers to keep as they were. Throws when not even one may be quantized.
 */
export async function excludeUntil(
  noisiestFirst: readonly LayerId[],
  isGood: (kept: ReadonlySet<string>) => Promise<boolean>,
): Promise<ReadonlySet<string>> {
  const worst = (count: number): ReadonlySet<string> => new Set(noisiestFirst.slice(0, count).map(({ node }) => node));
  let [bad, good, step] = [-1, 0, 1];
  while (!(await isGood(worst(good)))) {
    if (good >= noisiestFirst.length - 1) {
      throw new QuantizeError('the bound holds for no layer; use another form or a wider bound');
    }
    bad = good;
    good = Math.min(good + step, noisiestFirst.length - 1);
    step *= 2;
  }
  while (good - bad > 1) {
    const middle = (good + bad) >> 1;
    if (await isGood(worst(middle))) good = middle;
    else bad = middle;
  }
  return worst(good);
}
