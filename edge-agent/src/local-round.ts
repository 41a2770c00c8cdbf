import {
  layoutOf,
  localLayers,
  localMethodOf,
  readModel,
  type TrainingPlan,
  type UpdateParts,
} from '@commonweight/core';
import type { TrainingJob, TrainingResult } from './training/messages.ts';

/** What an agent keeps to itself from round to round, by task: state of the local method, layers of its own, a model of its own. */
export type OwnName = 'kept' | 'layers' | 'personal';

/** What an agent is given for a round. */
export interface RoundWork {
  graph: Uint8Array;
  base: Float32Array;
  /** What the strategy remembered with the base, where the plan's local method needs it. */
  memory: readonly Float32Array[];
  plan: TrainingPlan;
  seed: bigint;
}

/** What came of it. */
export interface RoundOutcome {
  result: TrainingResult;
  parts: UpdateParts;
  /** To be kept once the update is safe. */
  own: ReadonlyMap<OwnName, Float32Array>;
}

/**
 * One agent's part of a round, from the base to what goes into its update. What the agent keeps for itself is read with `own`, and never
 * part of the update: parameters of local layers are 0 in all of its vectors.
 */
export async function localRound(
  { graph, base: shared, memory, plan, seed }: RoundWork,
  own: (name: OwnName, length: number) => Promise<Float32Array | undefined>,
  train: (job: TrainingJob) => Promise<TrainingResult>,
): Promise<RoundOutcome> {
  const method = localMethodOf(plan);
  const layers = localLayers(layoutOf(readModel(graph)), plan.localLayers);
  const ownLayers = layers.length === 0 ? undefined : await own('layers', layers.length);
  const base = ownLayers === undefined ? shared : layers.put(shared, ownLayers);
  const state = { base, memory, kept: await own('kept', base.length) };
  const correction = method.correction?.(state);
  const result = await train({
    graph,
    weights: base,
    plan,
    seed,
    ...(correction === undefined ? {} : { correction: layers.without(correction) }),
    ...(method.needsBaseLoss === true ? { needsBaseLoss: true } : {}),
  });
  const delta = layers.without(result.weights.map((weight, i) => weight - (base[i] ?? 0)));
  const report = method.report({ ...state, delta, steps: result.steps, baseLoss: result.baseLoss, plan });
  const kept = new Map<OwnName, Float32Array>();
  if (report.kept !== undefined) kept.set('kept', layers.without(report.kept));
  if (layers.length > 0) kept.set('layers', layers.take(result.weights));
  if (method.personal !== undefined) {
    const weights = (await own('personal', base.length)) ?? base;
    const { evaluation: _, ...unmeasured } = method.personal(plan);
    const personal = await train({ graph, weights, anchor: base, plan: unmeasured, seed });
    kept.set('personal', personal.weights);
  }
  return { result, parts: { vectors: report.vectors.map(layers.without), numbers: report.numbers }, own: kept };
}
