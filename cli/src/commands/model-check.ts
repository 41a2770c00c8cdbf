import {
  contractOf,
  optimizerNames,
  parsePlan,
  surveyTraining,
  writeModel,
  type NodeVerdict,
  type TensorSpec,
  type TrainingPlan,
} from '@commonweight/core';
import type { LoadJob } from '@commonweight/edge-agent';
import type { Command } from 'commander';
import { behind } from '../model/behind.ts';
import { readOnnx, understood } from '../model/read-onnx.ts';
import { ownLoss } from '../task/own-loss.ts';
import { openSize, reporting, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { bytes, table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

export function addModelCheck(model: Command): void {
  reporting(model.command('check'))
    .description('say whether and what of an ONNX file can be trained, where, and what it takes')
    .argument('<file>', 'an ONNX file')
    .option('--batch <n>', 'examples of a step', whole(1), 32)
    .option('--loss <name>', 'what training makes small', 'cross-entropy')
    .option('--loss-graph <file>', 'a loss of your own: an ONNX graph of predictions, target and sampleWeights')
    .option('--preprocess <file>', 'an ONNX graph that is to stand in front of it')
    .option('--optimizer <name>', optimizerNames.join(', '), 'sgd')
    .option('--size <name=n>', 'a size that the model leaves open besides the batch; repeatable', openSize)
    .action(checkModel);
}

interface CheckOptions {
  json?: boolean;
  batch: number;
  loss: string;
  lossGraph?: string;
  preprocess?: string;
  optimizer: string;
  size?: Record<string, number>;
}

async function checkModel(file: string, options: CheckOptions): Promise<void> {
  const plan = await planOf(options);
  const output = standardOutput(options);
  const read = await readOnnx(file);
  const model = options.preprocess === undefined ? read : await behind(options.preprocess, read);
  const survey = understood(file, () => surveyTraining(model, plan));
  const { nodes, parameters, tensors, graph, stepBytes } = survey;
  const { inputs, outputs } = contractOf(model);
  const operators = byOperator(nodes);
  const rows = operators.map(({ operator, trainable, constant, blocking }) => [
    operator,
    trainable || '',
    constant || '',
    blocking || '',
  ]);
  const memory =
    stepBytes === undefined ? [] : [`a step of ${plan.batchSize} examples takes at most ${bytes(stepBytes)}`];
  const { runs, trains, elsewhere, fault } = await enginesFor({
    served: writeModel(model),
    ...(survey.obstacle === undefined ? { trained: { graph, plan } } : {}),
  });
  const obstacle = survey.obstacle ?? (fault === undefined ? undefined : `ONNX Runtime does not load it: ${fault}`);
  const blocking = nodes.filter(({ verdict }) => verdict === 'not differentiable');
  output.say(
    [
      `${inputs.map(showSpec).join(', ')} -> ${outputs.map(showSpec).join(', ')}`,
      [`${parameters.toLocaleString('en')} parameters in ${tensors} tensors`, ...memory].join('; '),
      table(
        ['operator', 'trainable', 'constant', 'no gradient'],
        rows.map((row) => row.map(String)),
      ),
      ...blocking
        .slice(0, NODES_SHOWN)
        .map(({ node, operator, mend }) => `node '${node}': ${operator} has no gradient; ${mend}`),
      ...(blocking.length > NODES_SHOWN ? [`and ${blocking.length - NODES_SHOWN} nodes more (--json has all)`] : []),
      ...(runs.length === 0 ? [] : [`runs on ${runs.join(', ')}`]),
      ...(trains.length === 0 ? [] : [`can be trained by ${trains.join(', ')}`]),
      ...elsewhere.map(({ engine, why }) => `${engine} does not: ${why}`),
    ].join('\n'),
    {
      event: 'checked',
      file,
      trainable: obstacle === undefined,
      ...(obstacle === undefined ? {} : { obstacle }),
      inputs,
      outputs,
      parameters,
      tensors,
      ...(stepBytes === undefined ? {} : { batch: plan.batchSize, stepBytes }),
      operators,
      runs,
      engines: trains,
      elsewhere,
      nodes,
    },
  );
  if (obstacle !== undefined) throw new UsageError(`${file} cannot be trained so: ${obstacle}`);
}

const NODES_SHOWN = 20;

async function planOf({ batch, loss, lossGraph, optimizer, size: sizes }: CheckOptions): Promise<TrainingPlan> {
  const own = await ownLoss(lossGraph);
  return parsePlan({
    loss: lossGraph === undefined ? loss : 'graph',
    ...own,
    optimizer: { name: optimizer, learningRate: 0.1 },
    epochs: 1,
    batchSize: batch,
    ...(sizes === undefined ? {} : { sizes }),
  });
}

interface Engines {
  /** Engines that load the model to run it, and to train it. */
  runs: string[];
  trains: string[];
  /** Those of this machine that do not. */
  elsewhere: { engine: string; why: string }[];
  /** Why the CPU does not load the model: then nothing does. */
  fault: string | undefined;
}

/** Tries the engines of this machine. */
async function enginesFor(job: LoadJob): Promise<Engines> {
  const { probeLoading } = await import('@commonweight/edge-agent');
  const reports = await probeLoading(job);
  const loading = (what: 'serving' | 'training'): string[] =>
    reports
      .filter((report) => report[what]?.fault === undefined && report[what] !== undefined)
      .map(({ engine }) => engine);
  return {
    runs: loading('serving'),
    trains: loading('training'),
    elsewhere: reports.flatMap(({ engine, serving, training }) => {
      const why = serving?.fault ?? training?.fault;
      return why === undefined ? [] : [{ engine, why }];
    }),
    fault: reports.find(({ engine }) => engine === 'ort-cpu')?.serving?.fault,
  };
}

function byOperator(
  nodes: readonly NodeVerdict[],
): { operator: string; trainable: number; constant: number; blocking: number }[] {
  const names = [...new Set(nodes.map(({ operator }) => operator))].sort();
  const count = (name: string, of: NodeVerdict['verdict']): number =>
    nodes.filter(({ operator, verdict }) => operator === name && verdict === of).length;
  return names.map((operator) => ({
    operator,
    trainable: count(operator, 'trainable'),
    constant: count(operator, 'constant'),
    blocking: count(operator, 'not differentiable'),
  }));
}

/** An input or output in words. */
export function showSpec({ name, dtype, dims, symbols }: TensorSpec): string {
  const open = (axis: number): string => symbols?.[axis] || (axis === 0 ? 'batch' : '?');
  return `${name} ${dtype}[${dims.map((dim, axis) => (dim < 0 ? open(axis) : dim)).join(', ')}]`;
}
