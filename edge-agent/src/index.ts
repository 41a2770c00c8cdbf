export { runAgent, type AgentOptions } from './agent.ts';
export type { AgentEvent } from './events.ts';
export {
  arrayDataset,
  classCount,
  DataError,
  labelsOf,
  subset,
  type Column,
  type Dataset,
} from './data/dataset.ts';
export { valuesOfExample } from './data/input-sources.ts';
export { exampleInputs } from './data/example-inputs.ts';
export { dealOut, type Dealing } from './data/partition.ts';
export { loadDataset } from './data/load-dataset.ts';
export { localRound, type OwnName } from './local-round.ts';
export { evaluate, type Evaluation, type MeasuredBy } from './training/evaluate.ts';
export { engineNames, isBuiltIn, probeEngine, type EngineName, type EngineReport } from './training/engines.ts';
export { LoadedGraphs, OrtTrainer } from './training/train.ts';
export { makeUpdate, type UpdateAssignment } from './update.ts';
export { startServing, type Serving, type ServingOptions } from './serving/start.ts';
export type { ServingEvent } from './serving/events.ts';
