import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { floatAttribute, makeNode } from '../onnx/nodes.ts';
import type { Shape } from '../tensor/shape.ts';

export type OptimizerPlan =
  | { name: 'sgd'; learningRate: number; momentum?: number }
  | { name: 'adam'; learningRate: number; beta1?: number; beta2?: number; epsilon?: number };

/** One value that the optimizer carries from step to step. */
export interface StateSlot {
  input: string;
  output: string;
  shape: Shape;
  initial: 'zeros';
}

/** Writes the update of one parameter into the value named `output`. */
export type ParameterUpdate = (parameter: string, gradient: string, output: string) => void;

/** Declares the optimizer's state in the graph and answers how it updates a parameter. */
export function writeOptimizer(graph: GraphBuilder, plan: OptimizerPlan, state: StateSlot[]): ParameterUpdate {
  switch (plan.name) {
    case 'sgd':
      return plan.momentum === undefined || plan.momentum === 0
        ? sgd(graph, plan.learningRate)
        : momentum(graph, plan.learningRate, plan.momentum, state);
    case 'adam':
      return adam(graph, plan, state);
  }
}

function sgd(graph: GraphBuilder, learningRate: number): ParameterUpdate {
  return (parameter, gradient, output) => {
    accumulate(graph, gradient, -learningRate, parameter, 1, output);
  };
}

/** Sutskever et al. 2013 as PyTorch writes it: v' = m·v + g, w' = w − rate·v'. */
function momentum(graph: GraphBuilder, learningRate: number, decay: number, state: StateSlot[]): ParameterUpdate {
  return (parameter, gradient, output) => {
    const slot = declare(graph, state, `${parameter}/velocity`, graph.shapeOf(parameter));
    accumulate(graph, gradient, 1, slot.input, decay, slot.output);
    accumulate(graph, slot.output, -learningRate, parameter, 1, output);
  };
}

/** Kingma and Ba 2015, with both bias corrections folded into scalars so that weights are passed over less. */
function adam(
  graph: GraphBuilder,
  plan: Extract<OptimizerPlan, { name: 'adam' }>,
  state: StateSlot[],
): ParameterUpdate {
  const { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = plan;
  const step = declare(graph, state, 'adam/step', [1]);
  graph.emit('Add', [step.input, graph.scalar(1)], {}, step.output);
  const correction = (beta: number): string =>
    graph.emit('Sub', [graph.scalar(1), graph.emit('Pow', [graph.scalar(beta), step.output])]);
  const root = graph.emit('Sqrt', [correction(beta2)]);
  const rate = graph.emit('Div', [graph.emit('Mul', [root, graph.scalar(learningRate)]), correction(beta1)]);
  const floor = graph.emit('Mul', [root, graph.scalar(epsilon)]);
  return (parameter, gradient, output) => {
    const mean = declare(graph, state, `${parameter}/mean`, graph.shapeOf(parameter));
    const square = declare(graph, state, `${parameter}/square`, graph.shapeOf(parameter));
    const squared = graph.emit('Mul', [gradient, gradient]);
    accumulate(graph, gradient, 1 - beta1, mean.input, beta1, mean.output);
    accumulate(graph, squared, 1 - beta2, square.input, beta2, square.output);
    const spread = graph.emit('Add', [graph.emit('Sqrt', [square.output]), floor]);
    const change = graph.emit('Div', [graph.emit('Mul', [mean.output, rate]), spread]);
    graph.emit('Sub', [parameter, change], {}, output);
  };
}

function declare(graph: GraphBuilder, state: StateSlot[], name: string, shape: Shape): StateSlot {
  const input = graph.input(`training/${name}`, shape);
  const slot: StateSlot = { input, output: `${input}/next`, shape, initial: 'zeros' };
  state.push(slot);
  return slot;
}

/** output = scale·value + keep·base; a matrix product nobody else reads takes the sum into its own pass. */
function accumulate(
  graph: GraphBuilder,
  value: string,
  scale: number,
  base: string,
  keep: number,
  output: string,
): void {
  const product = graph.soleMaker(value);
  if (product?.opType === 'Gemm' && product.input.length === 2) {
    graph.remove(product);
    const alpha = floatAttribute(product, 'alpha', 1) * scale;
    const turns = product.attribute.filter(({ name }) => name === 'transA' || name === 'transB');
    const fused = makeNode('Gemm', [...product.input, base], [output], {
      alpha: { float: alpha },
      beta: { float: keep },
    });
    fused.attribute.push(...turns);
    graph.append(fused);
    return;
  }
  const scaled = scale === 1 ? value : graph.emit('Mul', [value, graph.scalar(scale)]);
  const kept = keep === 1 ? base : graph.emit('Mul', [base, graph.scalar(keep)]);
  graph.emit('Add', [kept, scaled], {}, output);
}
