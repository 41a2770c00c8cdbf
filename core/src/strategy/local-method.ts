import { ConfigError } from '../errors.ts';
import { rateFactor } from '../training/schedule.ts';
import type { TrainingPlan } from '../training/plan.ts';
import type { UpdateParts, UpdateShape } from '../weights/packed.ts';

/** What an agent knows before it trains. All vectors are of the model's length. */
export interface LocalState {
  /** The weights that it begins with. */
  base: Float32Array;
  /** What the strategy remembered with the base; none at first. */
  memory: readonly Float32Array[];
  /** What the agent itself kept from the last round that it took part in. */
  kept: Float32Array | undefined;
}

/** What it knows afterwards. */
export interface LocalTraining extends LocalState {
  /** Trained minus base weights. */
  delta: Float32Array;
  /** Steps of the optimizer. */
  steps: number;
  /** Mean loss of the base on the agent's examples, where the method needs it. */
  baseLoss: number | undefined;
  plan: TrainingPlan;
}

/** What an agent does besides its training, because the strategy needs it. Nothing of it knows where vectors are kept. */
export interface LocalMethod {
  /** What an update carries. */
  shape: UpdateShape;
  /** The agent needs what the strategy remembers with the base. */
  needsMemory?: boolean;
  /** The agent measures the loss of the base before it trains. */
  needsBaseLoss?: boolean;
  /** What is added to the gradient at every step. */
  correction?(state: LocalState): Float32Array;
  /** The parts of the update, and what the agent keeps for the next round. */
  report(training: LocalTraining): UpdateParts & { kept?: Float32Array };
  /** The plan of a second training that the agent keeps to itself: it goes on from round to round, anchored at the base. */
  personal?(plan: TrainingPlan): TrainingPlan;
}

/** An option of a local method, as the plan carries it to the agents. */
export type LocalOptions = Readonly<Record<string, number>>;

/**
 * How often a constant gradient is taken at full rate over some steps: 1 each for plain SGD, more with momentum, less with a proximal
 * term or a schedule that shrinks. It is the norm ‖a‖₁ of Wang et al. 2020, "Tackling the Objective Inconsistency Problem in
 * Heterogeneous Federated Optimization", section 4.
 */
export function accumulatedRate({ optimizer, schedule, proximalMu = 0 }: TrainingPlan, steps: number): number {
  const momentum = 'momentum' in optimizer ? (optimizer.momentum ?? 0) : optimizer.name === 'nesterov' ? 0.9 : 0;
  let velocity = 0;
  let moved = 0;
  for (let step = 0; step < steps; step++) {
    const gradient = 1 - proximalMu * optimizer.learningRate * moved;
    velocity = momentum * velocity + gradient;
    const rate = schedule === undefined ? 1 : rateFactor(schedule, step, steps);
    moved += rate * (optimizer.name === 'nesterov' ? gradient + momentum * velocity : velocity);
  }
  return moved;
}

/** Throws ConfigError where the local optimizer is not linear in its gradients, so that its steps cannot be counted back. */
export function requireLinear(strategy: string, { optimizer }: TrainingPlan): void {
  if (optimizer.name === 'sgd' || optimizer.name === 'nesterov') return;
  throw new ConfigError(
    `${strategy} counts the local steps back from what they did, and ${optimizer.name} scales each of them: use sgd or nesterov`,
    'plan.optimizer',
  );
}
