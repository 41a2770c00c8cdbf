// The door for browsers, by the export condition "browser".
export { runAgent, type AgentOptions } from './browser/run-agent.ts';
export type { AgentEvent } from './events.ts';
export { arrayDataset, DataError, type Column, type Dataset } from './data/dataset.ts';
export type { EngineName } from './training/engine.ts';
