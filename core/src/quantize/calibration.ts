import { create } from '@bufbuild/protobuf';
import { graphOf } from '../onnx/file.ts';
import { TensorProto_DataType, ValueInfoProtoSchema } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, ValueInfoProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { Range } from './affine.ts';
import { QuantizeError } from './errors.ts';
import { GraphView } from './graph-view.ts';
import { CodecError } from '../errors.ts';
import { Histogram } from './histogram.ts';
import type { HistogramState } from './histogram.ts';
import { place } from './placement.ts';
import { prepare } from './prepare.ts';
import { rangeOf } from './ranges.ts';
import type { CalibrationOptions } from './ranges.ts';
import { requireLayers } from './select.ts';
import type { Selection } from './select.ts';

/** A float model that also outputs the values whose ranges a static model needs. */
export interface CalibrationGraph {
  model: ModelProto;
  /** Names of those values; a model input among them is not an output. */
  values: readonly string[];
}

export function calibrationGraph(model: ModelProto, selection: Selection = {}): CalibrationGraph {
  const { model: prepared } = prepare(model);
  const view = new GraphView(graphOf(prepared));
  const { anchors, values, kept } = place(view, selection);
  requireLayers(
    [...anchors].map(({ name, opType }) => ({ node: name, operator: opType })),
    kept,
    { graph: view.graph, wanted: 'convolution or matrix product' },
  );
  const sources = [...new Set(values.values())];
  return { model: withOutputs(prepared, sources), values: sources };
}

/** The model with further float values as outputs. */
export function withOutputs(model: ModelProto, values: readonly string[]): ModelProto {
  const graph = graphOf(model);
  const known = new Set([...graph.output, ...graph.input].map(({ name }) => name));
  const added = values.filter((name) => !known.has(name)).map(anyFloat);
  return { ...model, graph: { ...graph, output: [...graph.output, ...added] } };
}

/** A float tensor of a shape that the runtime finds out. */
function anyFloat(name: string): ValueInfoProto {
  const tensor = { elemType: TensorProto_DataType.FLOAT };
  return create(ValueInfoProtoSchema, { name, type: { value: { case: 'tensorType', value: tensor } } });
}

/** Collects what values hold over many runs. */
export class Calibrator {
  readonly #histograms: ReadonlyMap<string, Histogram>;

  constructor(values: readonly string[]) {
    this.#histograms = new Map(values.map((name) => [name, new Histogram()]));
  }

  /** Takes the inputs and outputs of one run. Throws for numbers that are not finite, naming the value. */
  add(tensors: ReadonlyMap<string, Float32Array>): void {
    for (const [name, histogram] of this.#histograms) {
      const values = tensors.get(name);
      if (values === undefined) continue;
      try {
        histogram.add(values);
      } catch (cause) {
        throw new QuantizeError(`value '${name}': ${(cause as Error).message}`, { cause });
      }
    }
  }

  /** Adds what another has seen: the sum is as if this one had seen all. */
  merge(other: Calibrator): void {
    for (const [name, histogram] of other.#histograms) this.#histograms.get(name)?.merge(histogram);
  }

  /** What was seen, by value, in at most so many bins each; values that were not seen are missing. */
  states(binsMax: number): Map<string, HistogramState> {
    return new Map(
      [...this.#histograms].flatMap(([name, histogram]): [string, HistogramState][] =>
        histogram.isEmpty ? [] : [[name, histogram.coarse(binsMax).state()]],
      ),
    );
  }

  /** What somebody else has seen. Throws CodecError where a value is missing, is none of these, or cannot be what it says; then nothing of it counts. */
  addStates(states: ReadonlyMap<string, HistogramState>): void {
    const stray = [...states.keys()].find((name) => !this.#histograms.has(name));
    const missing = [...this.#histograms.keys()].find((name) => !states.has(name));
    if (stray !== undefined) throw new CodecError(`value '${stray.slice(0, 80)}' was not asked for`);
    if (missing !== undefined) throw new CodecError(`value '${missing}' is missing`);
    const seen = [...states].map(([name, state]) => [name, Histogram.from(state)] as const);
    for (const [name, histogram] of seen) this.#histograms.get(name)?.merge(histogram);
  }

  ranges(options: CalibrationOptions = {}): Map<string, Range> {
    return new Map(
      Array.from(this.#histograms, ([name, histogram]) => {
        if (histogram.isEmpty) throw new QuantizeError(`value '${name}' was never seen; give calibration data`);
        return [name, rangeOf(histogram, options)];
      }),
    );
  }
}
