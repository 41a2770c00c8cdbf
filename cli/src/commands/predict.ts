import { connect, type Tensor } from '@commonweight/client-sdk';
import type { Command } from 'commander';
import { explanationRecord, explanationText } from '../explain/explanation-view.ts';
import { exampleFrom } from '../model/example.ts';
import { gathered, name, talking, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  coordinator: string;
  channel?: string;
  input?: string;
  image?: string[];
  data?: string;
  index: number;
  explain?: boolean;
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
    .option('--explain', 'which of its inputs made the answer what it is (commonweight explain has more)')
    .option('--timeout <seconds>', 'how long to wait for the coordinator and the model', whole(1, 3600), 10)
    .action(predict);
}

async function predict(model: string, options: Options): Promise<void> {
  if (options.explain === true && (options.image?.length ?? 1) > 1)
    throw new UsageError('--explain explains one example: give one --image');
  const exampleOf = await exampleFrom(options);
  const client = await connect(options.coordinator, { readyTimeoutMs: options.timeout * 1000, reports: false });
  try {
    const { channel } = options;
    const live = await client.model(model, channel === undefined ? {} : { channel });
    const { inputs, label, columns } = exampleOf(live);
    const { outputs, version } = await live.predict(inputs);
    const explanation = options.explain === true ? await live.explain(inputs) : undefined;
    const lines = Object.entries(outputs).map(([output, tensor]) => describe(output, tensor));
    const known = label === undefined ? [] : [`label     ${label}`];
    const why =
      explanation === undefined ? [] : [explanationText(explanation, { columns, baseline: 'zeros', top: 10 })];
    standardOutput(options).say([`${model} version ${version}`, ...lines, ...known, ...why].join('\n'), {
      event: 'prediction',
      model,
      version,
      outputs: Object.fromEntries(
        Object.entries(outputs).map(([key, { data, dims }]) => [key, { dims, data: [...data] }]),
      ),
      ...(label === undefined ? {} : { label }),
      ...(explanation === undefined ? {} : { explanation: explanationRecord(explanation) }),
    });
  } finally {
    await client.close();
  }
}

/** An output in words: the largest value of each row where it looks like classes. */
function describe(name: string, { data, dims }: Tensor): string {
  const values = Array.from(data as ArrayLike<number | bigint>, Number);
  const width = dims.at(-1) ?? 1;
  const rows = Array.from({ length: values.length / width }, (_, row) => values.slice(row * width, (row + 1) * width));
  const best = width > 1 ? `, largest at ${rows.map((row) => row.indexOf(Math.max(...row))).join(', ')}` : '';
  return `${name} [${dims.join(', ')}]${best}\n${rows.map((row) => `  ${row.map((x) => x.toPrecision(4)).join(' ')}`).join('\n')}`;
}
