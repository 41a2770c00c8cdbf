export { runAgent, type AgentOptions } from './agent.ts';
export type { AgentEvent } from './events.ts';
export { DataError, type Dataset } from './data/dataset.ts';
export { loadDataset } from './data/load-dataset.ts';
