import {
  contractOf,
  optimizerNames,
  parsePlan,
  surveyTraining,
  type NodeVerdict,
  type TensorSpec,
} from '@commonweight/core';
import type { Command } from 'commander';
import { readOnnx, understood } from '../model/read-onnx.ts';
import { openSize, reporting, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { bytes, table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

export function addModelCheck(model: Command): void {
  reporting(model.command('check'))
    .description('say whether and what of an ONNX file can be trained')
    .argument('<file>', 'an ONNX file')
    .option('--batch <n>', 'examples of a step', whole(1), 32)
    .option('--loss <name>', 'what training makes small', 'cross-entropy')
    .option('--optimizer <name>', optimizerNames.join(', '), 'sgd')
    .option('--size <name=n>', 'a size that the model leaves open besides the batch; repeatable', openSize)
    .action(checkModel);
}

interface CheckOptions {
  json?: boolean;
  batch: number;
  loss: string;
  optimizer: string;
  size?: Record<string, number>;
}

async function checkModel(file: string, options: CheckOptions): Promise<void> {
  const { batch, loss, optimizer, size: sizes } = options;
  const plan = parsePlan({
    loss,
    optimizer: { name: optimizer, learningRate: 0.1 },
    epochs: 1,
    batchSize: batch,
    ...(sizes === undefined ? {} : { sizes }),
  });
  const output = standardOutput(options);
  const model = await readOnnx(file);
  const survey = understood(file, () => surveyTraining(model, plan));
  const { nodes, parameters, tensors, stepBytes, obstacle } = survey;
  const { inputs, outputs } = contractOf(model);
  const operators = byOperator(nodes);
  const rows = operators.map(({ operator, trainable, constant, blocking }) => [
    operator,
    trainable || '',
    constant || '',
    blocking || '',
  ]);
  const memory = stepBytes === undefined ? [] : [`a step of ${batch} examples takes at most ${bytes(stepBytes)}`];
  const engines = obstacle === undefined ? ['ort-cpu'] : [];
  output.say(
    [
      `${inputs.map(showSpec).join(', ')} -> ${outputs.map(showSpec).join(', ')}`,
      [`${parameters.toLocaleString('en')} parameters in ${tensors} tensors`, ...memory].join('; '),
      table(
        ['operator', 'trainable', 'constant', 'no gradient'],
        rows.map((row) => row.map(String)),
      ),
      ...nodes
        .filter(({ verdict }) => verdict === 'not differentiable')
        .map(({ node, operator }) => `node '${node}': ${operator} has no gradient; replace it before the export`),
      ...(engines.length === 0 ? [] : [`can be trained by ${engines.join(', ')}`]),
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
      ...(stepBytes === undefined ? {} : { batch, stepBytes }),
      operators,
      engines,
      nodes,
    },
  );
  if (obstacle !== undefined) throw new UsageError(`${file} cannot be trained so: ${obstacle}`);
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
