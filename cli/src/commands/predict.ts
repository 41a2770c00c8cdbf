import { connect, type Inputs, type InputValue, type Tensor } from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { gathered, name, talking, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { standardOutput } from '../output/output.ts';
import { inputsFrom } from '../model/json-inputs.ts';

interface Options {
  coordinator: string;
  channel?: string;
  input?: string;
  image?: string[];
  data?: string;
  index: number;
  timeout: number;
  json?: boolean;
}

export function addPredict(program: Command): void {
  talking(program.command('predict'), 'grpc', 'nats', 'http')
    .description('one prediction through the client SDK')
    .argument('<model>', 'a model', name)
    .option('--channel <name>', 'what says which version answers (the newest does)', name)
    .option('--input <file>', 'JSON: an array of numbers, or an object of arrays by input name')
    .option('--image <file>', 'an image instead (needs the package sharp); repeatable, for more rows', gathered)
    .option('--data <spec>', 'an example of a data set instead, such as "mnist?split=test"')
    .option('--index <n>', 'which example of the data set', whole(0), 0)
    .option('--timeout <seconds>', 'how long to wait for the coordinator and the model', whole(1, 3600), 10)
    .action(predict);
}

async function predict(model: string, options: Options): Promise<void> {
  const ways = [options.input, options.image, options.data].filter((way) => way !== undefined);
  if (ways.length !== 1) throw new UsageError('give either --input FILE, --image FILE or --data SPEC');
  const given = options.data !== undefined ? await exampleIn(options.data, options.index) : undefined;
  const json: unknown = options.input === undefined ? undefined : JSON.parse(await readFile(options.input, 'utf8'));
  const client = await connect(options.coordinator, { readyTimeoutMs: options.timeout * 1000, reports: false });
  try {
    const { channel } = options;
    const live = await client.model(model, channel === undefined ? {} : { channel });
    const specs = live.contract?.inputs ?? [];
    const inputs = inputsOf(options, specs, given, json);
    const { outputs, version } = await live.predict(inputs);
    const lines = Object.entries(outputs).map(([output, tensor]) => describe(output, tensor));
    const label = given?.label === undefined ? [] : [`label     ${given.label}`];
    standardOutput(options).say([`${model} version ${version}`, ...lines, ...label].join('\n'), {
      event: 'prediction',
      model,
      version,
      outputs: Object.fromEntries(
        Object.entries(outputs).map(([key, { data, dims }]) => [key, { dims, data: [...data] }]),
      ),
      ...(given?.label === undefined ? {} : { label: given.label }),
    });
  } finally {
    await client.close();
  }
}

interface Example {
  inputsFor(specs: readonly TensorSpec[]): Inputs;
  /** What it is in truth, where the data knows. */
  label: number | string | undefined;
}

function inputsOf({ image }: Options, specs: readonly TensorSpec[], given: Example | undefined, json: unknown): Inputs {
  if (given !== undefined) return given.inputsFor(specs);
  if (image === undefined) return inputsFrom(json, specs);
  const images: InputValue = image.map((path) => ({ image: path }));
  return { [specs[0]?.name ?? 'input']: images };
}

async function exampleIn(spec: string, index: number): Promise<Example> {
  const { exampleInputs, labelsOf, loadDataset } = await import('@commonweight/edge-agent');
  const data = await loadDataset(spec);
  if (index >= data.examples) {
    throw new UsageError(`--index ${index} is past the end: ${spec} has ${data.examples} examples`);
  }
  const label = labelsOf(data)?.[index];
  return {
    inputsFor: (specs) => exampleInputs(data, specs, [index]),
    label: label === undefined ? undefined : (data.classes?.[label] ?? label),
  };
}

/** An output in words: the largest value of each row where it looks like classes. */
function describe(name: string, { data, dims }: Tensor): string {
  const values = Array.from(data as ArrayLike<number | bigint>, Number);
  const width = dims.at(-1) ?? 1;
  const rows = Array.from({ length: values.length / width }, (_, row) => values.slice(row * width, (row + 1) * width));
  const best = width > 1 ? `, largest at ${rows.map((row) => row.indexOf(Math.max(...row))).join(', ')}` : '';
  return `${name} [${dims.join(', ')}]${best}\n${rows.map((row) => `  ${row.map((x) => x.toPrecision(4)).join(' ')}`).join('\n')}`;
}
