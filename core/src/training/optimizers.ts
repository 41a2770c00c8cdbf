import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { floatAttribute, makeNode } from '../onnx/nodes.ts';
import type { Shape } from '../tensor/shape.ts';

export type OptimizerPlan =
  | { name: 'sgd'; learningRate: number; momentum?: number }
  /** Momentum that looks ahead, as PyTorch writes it (Sutskever et al. 2013). */
  | { name: 'nesterov'; learningRate: number; momentum?: number }
  | { name: 'adam'; learningRate: number; beta1?: number; beta2?: number; epsilon?: number }
  /** Adam whose weight decay bypasses the moments (Loshchilov and Hutter 2019). */
  | { name: 'adamw'; learningRate: number; beta1?: number; beta2?: number; epsilon?: number; weightDecay?: number }
  | { name: 'adagrad'; learningRate: number; epsilon?: number }
  | { name: 'rmsprop'; learningRate: number; decay?: number; epsilon?: number };

/** One value that the optimizer carries from step to step. */
export interface StateSlot {
  input: string;
  output: string;
  shape: Shape;
  initial: 'zeros';
}

/** Writes the update of one parameter into the value named `output`. */
export type ParameterUpdate = (parameter: string, gradient: string, output: string) => void;

/** The learning rate: a number, and where there is a schedule the value that scales it from step to step. */
export interface Rate {
  learningRate: number;
  factor?: string;
}

/** Declares the optimizer's state in the graph and answers how it updates a parameter. `factor` names the schedule's value. */
export function writeOptimizer(
  graph: GraphBuilder,
  plan: OptimizerPlan,
  state: StateSlot[],
  factor?: string,
): ParameterUpdate {
  const rate: Rate = { learningRate: plan.learningRate, ...(factor === undefined ? {} : { factor }) };
  switch (plan.name) {
    case 'sgd':
      return plan.momentum === undefined || plan.momentum === 0
        ? sgd(graph, rate)
        : momentum(graph, rate, plan.momentum, state);
    case 'nesterov':
      return nesterov(graph, rate, plan.momentum ?? 0.9, state);
    case 'adam':
      return adam(graph, rate, plan, 0, state);
    case 'adamw':
      return adam(graph, rate, plan, plan.weightDecay ?? 0.01, state);
    case 'adagrad':
      return adagrad(graph, rate, plan.epsilon ?? 1e-10, state);
    case 'rmsprop':
      return rmsprop(graph, rate, plan, state);
  }
}

function sgd(graph: GraphBuilder, rate: Rate): ParameterUpdate {
  return (parameter, gradient, output) => descend(graph, parameter, gradient, rate, output);
}

/** Sutskever et al. 2013 as PyTorch writes it: v' = m·v + g, w' = w − rate·v'. */
function momentum(graph: GraphBuilder, rate: Rate, decay: number, state: StateSlot[]): ParameterUpdate {
  return (parameter, gradient, output) => {
    const slot = declare(graph, state, `${parameter}/velocity`, graph.shapeOf(parameter));
    accumulate(graph, gradient, 1, slot.input, decay, slot.output);
    descend(graph, parameter, slot.output, rate, output);
  };
}

/** v' = m·v + g, w' = w − rate·(g + m·v'). */
function nesterov(graph: GraphBuilder, rate: Rate, decay: number, state: StateSlot[]): ParameterUpdate {
  return (parameter, gradient, output) => {
    const slot = declare(graph, state, `${parameter}/velocity`, graph.shapeOf(parameter));
    const kept = graph.emit('Mul', [slot.input, graph.scalar(decay)]);
    graph.emit('Add', [kept, gradient], {}, slot.output);
    const ahead = graph.emit('Add', [gradient, graph.emit('Mul', [slot.output, graph.scalar(decay)])]);
    descend(graph, parameter, ahead, rate, output);
  };
}

/** Duchi et al. 2011: s' = s + g², w' = w − rate·g / (√s' + ε). */
function adagrad(graph: GraphBuilder, rate: Rate, epsilon: number, state: StateSlot[]): ParameterUpdate {
  return (parameter, gradient, output) => {
    const sum = declare(graph, state, `${parameter}/square`, graph.shapeOf(parameter));
    graph.emit('Add', [sum.input, graph.emit('Mul', [gradient, gradient])], {}, sum.output);
    const spread = graph.emit('Add', [graph.emit('Sqrt', [sum.output]), graph.scalar(epsilon)]);
    descend(graph, parameter, graph.emit('Div', [gradient, spread]), rate, output);
  };
}

/** Tieleman and Hinton 2012, as PyTorch writes it: s' = ρ·s + (1−ρ)·g², w' = w − rate·g / (√s' + ε). */
function rmsprop(
  graph: GraphBuilder,
  rate: Rate,
  { decay = 0.99, epsilon = 1e-8 }: Extract<OptimizerPlan, { name: 'rmsprop' }>,
  state: StateSlot[],
): ParameterUpdate {
  return (parameter, gradient, output) => {
    const mean = declare(graph, state, `${parameter}/square`, graph.shapeOf(parameter));
    accumulate(graph, graph.emit('Mul', [gradient, gradient]), 1 - decay, mean.input, decay, mean.output);
    const spread = graph.emit('Add', [graph.emit('Sqrt', [mean.output]), graph.scalar(epsilon)]);
    descend(graph, parameter, graph.emit('Div', [gradient, spread]), rate, output);
  };
}

/** w' = w − rate·direction; without a schedule the product that makes the direction may take the sum into its own pass. */
function descend(
  graph: GraphBuilder,
  parameter: string,
  direction: string,
  { learningRate, factor }: Rate,
  output: string,
): void {
  const scaled = factor === undefined ? direction : graph.emit('Mul', [direction, factor]);
  accumulate(graph, scaled, -learningRate, parameter, 1, output);
}

/** Kingma and Ba 2015, with both bias corrections folded into scalars so that weights are passed over less. */
function adam(
  graph: GraphBuilder,
  { learningRate, factor }: Rate,
  plan: Extract<OptimizerPlan, { name: 'adam' | 'adamw' }>,
  weightDecay: number,
  state: StateSlot[],
): ParameterUpdate {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = plan;
  const step = declare(graph, state, 'adam/step', [1]);
  graph.emit('Add', [step.input, graph.scalar(1)], {}, step.output);
  const correction = (beta: number): string =>
    graph.emit('Sub', [graph.scalar(1), graph.emit('Pow', [graph.scalar(beta), step.output])]);
  const root = graph.emit('Sqrt', [correction(beta2)]);
  const base =
    factor === undefined
      ? graph.scalar(learningRate)
      : graph.emit('Mul', [graph.scalar(learningRate), graph.emit('Reshape', [factor, graph.integers([1])])]);
  const rate = graph.emit('Div', [graph.emit('Mul', [root, base]), correction(beta1)]);
  const floor = graph.emit('Mul', [root, graph.scalar(epsilon)]);
  return (parameter, gradient, output) => {
    const mean = declare(graph, state, `${parameter}/mean`, graph.shapeOf(parameter));
    const square = declare(graph, state, `${parameter}/square`, graph.shapeOf(parameter));
    const squared = graph.emit('Mul', [gradient, gradient]);
    accumulate(graph, gradient, 1 - beta1, mean.input, beta1, mean.output);
    accumulate(graph, squared, 1 - beta2, square.input, beta2, square.output);
    const spread = graph.emit('Add', [graph.emit('Sqrt', [square.output]), floor]);
    const change = graph.emit('Div', [graph.emit('Mul', [mean.output, rate]), spread]);
    if (weightDecay === 0) return void graph.emit('Sub', [parameter, change], {}, output);
    // Decoupled: the weight shrinks by rate·decay, whatever its gradient.
    const shrink = graph.emit('Mul', [parameter, graph.emit('Mul', [base, graph.scalar(weightDecay)])]);
    graph.emit('Sub', [parameter, graph.emit('Add', [change, shrink])], {}, output);
  };
}

function declare(graph: GraphBuilder, state: StateSlot[], name: string, shape: Shape): StateSlot {
  const input = graph.input(`training/${name}`, shape);
  const slot: StateSlot = { input, output: `${input}/next`, shape, initial: 'zeros' };
  state.push(slot);
  return slot;
}

/** output = scale·value + keep·base; a matrix product nobody else reads takes the sum, or at least the scale, into its own pass. */
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
  const isScaled = scale === 1 || scaleAtSource(graph, value, scale);
  const scaled = isScaled ? value : graph.emit('Mul', [value, graph.scalar(scale)]);
  const kept = keep === 1 ? base : graph.emit('Mul', [base, graph.scalar(keep)]);
  graph.emit('Add', [kept, scaled], {}, output);
}

/** What a factor may be moved through, from the first input to the output. */
const linear: readonly string[] = ['Reshape', 'Transpose'];

/** Scales a value by the factor of the matrix product that it comes from, where nobody else reads it on the way. */
function scaleAtSource(graph: GraphBuilder, value: string, scale: number): boolean {
  let node = graph.soleMaker(value);
  while (node !== undefined && node.opType !== 'Gemm') {
    const isChoice = node.opType === 'MatMul' && graph.isConstant(node.input[1]!);
    if (!isChoice && !linear.includes(node.opType)) return false;
    node = graph.makerFor(node.input[0]!, node);
  }
  if (node === undefined || node.input.length !== 2) return false;
  const alpha = floatAttribute(node, 'alpha', 1) * scale;
  const others = node.attribute.filter(({ name }) => name !== 'alpha');
  node.attribute = [...makeNode('Gemm', [], [], { alpha: { float: alpha } }).attribute, ...others];
  return true;
}
