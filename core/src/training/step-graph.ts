import { readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, ValueInfoProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import type { Shape } from '../tensor/shape.ts';
import type { TeacherGraph } from './distillation.ts';
import type { EvaluationGraph } from './evaluation-graph.ts';
import type { TrainingGraph } from './training-graph.ts';

/** A value that stays with what runs a graph: an output that is the next run's input, or an input that does not change. */
export interface KeptValue {
  input: string;
  output?: string;
  shape: Shape;
}

/** An ONNX graph that is run step after step. What is no kept value goes in and comes out with each step. */
export interface StepGraph {
  model: Uint8Array;
  kept: readonly KeptValue[];
  outputs: readonly string[];
  /** Bytes of the values of a step. */
  valueBytes: number;
  /** For an engine that differentiates by itself: the loss, and the inputs that take its gradients by kept values. */
  differentiated?: { loss: string; gradients: readonly { input: string; parameter: string }[] };
}

export function stepOfTraining(training: TrainingGraph): StepGraph {
  const { model, parameters, state, anchors, corrections, gradients, loss, valueBytes } = training;
  const shapes = new Map(parameters.map(({ name, shape }) => [name, shape]));
  const fixed = [...anchors, ...corrections].map(({ input, parameter }) => ({ input, shape: shapes.get(parameter)! }));
  const kept = [...parameters, ...state].map(({ input, output, shape }) => ({ input, output, shape }));
  const differentiated = gradients.length === 0 ? {} : { differentiated: { loss, gradients } };
  return { model, kept: [...kept, ...fixed], outputs: [loss], valueBytes, ...differentiated };
}

export function stepOfEvaluation({ model, parameters, totals }: EvaluationGraph): StepGraph {
  const kept = parameters.map(({ input, shape }) => ({ input, shape }));
  return { model, kept, outputs: totals.map(({ output }) => output), valueBytes: 0 };
}

/** A teacher's answers; nothing of it changes. */
export const stepOfTeacher = ({ model, output }: TeacherGraph): StepGraph => ({
  model,
  kept: [],
  outputs: [output],
  valueBytes: 0,
});

/** The name of a value in one of several steps. */
export const inStep = (step: number, name: string): string => `${step}/${name}`;

/** Several steps as one graph, so that they cost one crossing into the runtime: what goes in and out is named by `inStep`. */
export function unrolled(graph: StepGraph, steps: number): StepGraph {
  const { graph: body, ...around } = readModel(graph.model);
  const { node = [], initializer = [], input = [], output = [] } = body ?? {};
  const stays = new Set([...initializer, ...graph.kept.map(({ input: name }) => ({ name }))].map(({ name }) => name));
  const valueOf = new Map(output.map((value) => [value.name, value]));
  const [nodes, inputs, outputs]: [NodeProto[], ValueInfoProto[], ValueInfoProto[]] = [[], [], []];
  // What a kept input is called in the step at hand: an output of the step before, from the second on.
  let carried = new Map<string, string>();
  for (let step = 0; step < steps; step++) {
    const named = (name: string): string =>
      name === '' ? '' : (carried.get(name) ?? (stays.has(name) ? name : inStep(step, name)));
    const renamed = (name: string): string => (name === '' ? '' : inStep(step, name));
    for (const one of node) {
      nodes.push({
        ...one,
        name: inStep(step, one.name),
        input: one.input.map(named),
        output: one.output.map(renamed),
      });
    }
    for (const value of input) if (!stays.has(value.name)) inputs.push({ ...value, name: inStep(step, value.name) });
    for (const name of graph.outputs) outputs.push({ ...valueOf.get(name)!, name: inStep(step, name) });
    carried = new Map(
      graph.kept.flatMap((value) => (value.output === undefined ? [] : [[value.input, inStep(step, value.output)]])),
    );
  }
  const kept = graph.kept.map((value) =>
    value.output === undefined ? value : { ...value, output: carried.get(value.input)! },
  );
  for (const value of input) if (stays.has(value.name)) inputs.push(value);
  for (const { output: name, input: from } of kept) {
    if (name === undefined) continue;
    const original = graph.kept.find((value) => value.input === from)!.output!;
    outputs.push({ ...valueOf.get(original)!, name });
  }
  const model = { ...around, graph: { ...body!, node: nodes, input: inputs, output: outputs } } as ModelProto;
  return {
    model: writeModel(model),
    kept,
    outputs: outputs.slice(0, steps * graph.outputs.length).map(({ name }) => name),
    valueBytes: steps * graph.valueBytes,
  };
}

/** A graph that gives kept values out as they are: how their numbers come back from where a runtime keeps them. */
export function copying(values: readonly KeptValue[]): StepGraph {
  const kept = values.map(({ input, shape }) => ({ input, output: `${input}/copy`, shape }));
  const model = makeModel({
    name: 'copy',
    node: kept.map(({ input, output }) => makeNode('Identity', [input], [output])),
    initializer: [],
    input: kept.map(({ input, shape }) => makeValue(input, shape)),
    output: kept.map(({ output, shape }) => makeValue(output, shape)),
  });
  return { model: writeModel(model), kept, outputs: [], valueBytes: 0 };
}
