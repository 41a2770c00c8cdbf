import {
  connect,
  InputError,
  permutationImportance,
  type Importances,
  type Inputs,
  type Model,
} from '@commonweight/client-sdk';
import {
  ATTRIBUTION_STEPS_MAX,
  attributionMethods,
  scoreNames,
  type AttributionMethod,
  type ScoreName,
} from '@commonweight/core';
import { InvalidArgumentError, type Command } from 'commander';
import { explanationRecord, explanationText } from '../explain/explanation-view.ts';
import { exampleFrom } from '../model/example.ts';
import { name, oneOf, talking, whole } from '../output/arguments.ts';
import { CommandError, UsageError } from '../output/failure.ts';
import { table } from '../output/format.ts';
import { standardOutput, type Output } from '../output/output.ts';

interface Options {
  coordinator: string;
  channel?: string;
  input?: string;
  image?: string[];
  data?: string;
  index: number;
  method: string;
  steps: number;
  baseline: number | 'mean';
  output?: string;
  target?: number;
  top: number;
  examples: number;
  repeats: number;
  score: string;
  timeout: number;
  json?: boolean;
}

const PERMUTATION = 'permutation';

export function addExplain(program: Command): void {
  talking(program.command('explain'), 'grpc', 'nats', 'http')
    .description('which inputs made an answer what it is, or which columns of a table a model relies on')
    .argument('<model>', 'a model', name)
    .option('--channel <name>', 'what says which version is explained (the newest)', name)
    .option('--data <spec>', 'a data set, such as "mnist?split=test" or csv:flowers.csv')
    .option('--index <n>', 'which example of the data set', whole(0), 0)
    .option('--input <file>', 'JSON instead: an array of numbers, or an object of arrays by input name')
    .option('--image <file>', 'an image instead (needs the package sharp)', onlyOne)
    .option(
      '--method <name>',
      `${attributionMethods.join(' or ')} for one example, ${PERMUTATION} for the columns of a table`,
      oneOf(...attributionMethods, PERMUTATION),
      attributionMethods[0],
    )
    .option('--steps <n>', 'gradients of integrated-gradients', whole(1, ATTRIBUTION_STEPS_MAX), 32)
    .option(
      '--baseline <number>',
      'what the example is compared with: a number everywhere, or mean of the data',
      baseline,
      0,
    )
    .option('--output <name>', 'which output (default: the first of float numbers)')
    .option('--target <n>', 'which of its values (default: the largest)', whole(0))
    .option('--top <n>', 'how many values to show', whole(1, 1000), 10)
    .option('--examples <n>', `rows that ${PERMUTATION} shuffles`, whole(2, 1e6), 512)
    .option('--repeats <n>', `how often ${PERMUTATION} shuffles each column`, whole(1, 1000), 5)
    .option(
      '--score <name>',
      `what ${PERMUTATION} measures: ${scoreNames.join(', ')}`,
      oneOf(...scoreNames),
      scoreNames[0],
    )
    .option('--timeout <seconds>', 'how long to wait for the coordinator and the model', whole(1, 3600), 10)
    .action(explain);
}

function onlyOne(file: string, before: string[] | undefined): string[] {
  if (before !== undefined) throw new InvalidArgumentError('One example is explained: give one image.');
  return [file];
}

function baseline(text: string): number | 'mean' {
  const value = Number(text);
  if (text === 'mean') return text;
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('Give a number, or mean.');
}

async function explain(model: string, options: Options): Promise<void> {
  const isTable = options.method === PERMUTATION;
  if (isTable && options.data === undefined) throw new UsageError(`${PERMUTATION} needs a table: add --data SPEC`);
  if (options.baseline === 'mean' && options.data === undefined) {
    throw new UsageError('--baseline mean needs the data whose mean it is: add --data SPEC, or give a number');
  }
  const output = standardOutput(options);
  const work = isTable ? await importanceWork(options, output) : await attributionWork(options, output);
  const client = await connect(options.coordinator, { readyTimeoutMs: options.timeout * 1000, reports: false });
  try {
    const { channel } = options;
    await work(await client.model(model, channel === undefined ? {} : { channel }));
  } catch (cause) {
    if (cause instanceof InputError) throw new UsageError(cause.message, { cause });
    throw cause;
  } finally {
    await client.close();
  }
}

/** What is to be done once a model serves; files are read before. */
type Work = (model: Model) => Promise<void>;

async function attributionWork(options: Options, output: Output): Promise<Work> {
  const exampleOf = await exampleFrom(options);
  const mean = options.baseline === 'mean' ? await meanOf(options.data!) : undefined;
  return async (model) => {
    const { inputs, label, columns } = exampleOf(model);
    const from: number | Inputs = mean === undefined ? Number(options.baseline) : { [Object.keys(inputs)[0]!]: mean };
    const explanation = await model.explain(inputs, {
      method: options.method as AttributionMethod,
      steps: options.steps,
      baseline: from,
      ...(options.output === undefined ? {} : { output: options.output }),
      ...(options.target === undefined ? {} : { index: options.target }),
    });
    const text = explanationText(explanation, {
      columns,
      baseline: mean === undefined ? `${options.baseline} everywhere` : 'the mean of the data',
      top: options.top,
    });
    const lines = [
      `${model.name} version ${explanation.version}`,
      ...(label === undefined ? [] : [`label ${label}`]),
      text,
    ];
    output.say(lines.join('\n'), {
      event: 'explanation',
      model: model.name,
      version: explanation.version,
      ...(label === undefined ? {} : { label }),
      ...explanationRecord(explanation),
    });
  };
}

async function importanceWork(options: Options, output: Output): Promise<Work> {
  const { exampleInputs, labelsOf, loadDataset, valueNames, valuesOfExample } =
    await import('@commonweight/edge-agent');
  const data = await loadDataset(options.data!);
  const columns = valueNames(data);
  const labels = labelsOf(data);
  if (labels === undefined)
    throw new CommandError(`data '${options.data}' has no classes: name the column with &label=COLUMN`);
  const rows = Math.min(data.examples, options.examples);
  if (rows < 2)
    throw new CommandError(`data '${options.data}' has ${rows} rows: columns of 2 and more can be shuffled`);
  const size = valuesOfExample(data);
  const first = Array.from({ length: rows }, (_, index) => index);
  const table = exampleInputs(data, [{ name: 'input', dtype: 'float', dims: [-1, size] }], first);
  const labelled = { inputs: table['input']!.data as Float32Array, labels: labels.slice(0, rows) };
  return async (model) => {
    const found = await permutationImportance(model, labelled, {
      repeats: options.repeats,
      score: options.score as ScoreName,
      onProgress: (done, of) => {
        if (done !== of && done % 16 !== 0) return;
        if (output.json) output.say('', { event: 'progress', done, of });
        else process.stderr.write(`${done} of ${of} columns\n`);
      },
    });
    sayImportances(model.name, found, { rows, columns, options, output });
  };
}

function sayImportances(
  model: string,
  { version, score, columns }: Importances,
  about: { rows: number; columns: string[] | undefined; options: Options; output: Output },
): void {
  const { rows, options, output } = about;
  const nameOf = (column: number): string => about.columns?.[column] ?? String(column);
  const shown = columns.slice(0, options.top);
  const lines = shown.map(({ column, drop, spread }) => [nameOf(column), drop.toFixed(4), `± ${spread.toFixed(4)}`]);
  output.say(
    [
      `${model} version ${version}: ${options.score} ${score.toPrecision(4)} on ${rows} rows, and how much of it is lost when a column is shuffled`,
      table(['column', 'loses', ''], lines),
      ...(shown.length < columns.length ? [`and ${columns.length - shown.length} more: raise --top`] : []),
    ].join('\n'),
    {
      event: 'importance',
      model,
      version,
      score: options.score,
      value: score,
      rows,
      columns: columns.map(({ column, drop, spread }) => ({ column, name: nameOf(column), drop, spread })),
    },
  );
}

/** The mean example. */
async function meanOf(spec: string): Promise<Float32Array> {
  const { exampleInputs, loadDataset, valuesOfExample } = await import('@commonweight/edge-agent');
  const data = await loadDataset(spec);
  const { examples } = data;
  const size = valuesOfExample(data);
  const all = Array.from({ length: examples }, (_, index) => index);
  const values = exampleInputs(data, [{ name: 'input', dtype: 'float', dims: [-1, size] }], all)['input']!.data;
  const sums = new Float64Array(size);
  (values as Float32Array).forEach((value, at) => (sums[at % size]! += value));
  return Float32Array.from(sums, (sum) => sum / examples);
}
