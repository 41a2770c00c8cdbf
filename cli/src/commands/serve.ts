import type { EngineName } from '@commonweight/client-sdk';
import type { ServingEvent } from '@commonweight/edge-agent';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { name, oneOf, talking, whole } from '../output/arguments.ts';
import { standardOutput } from '../output/output.ts';
import { aborted, stopSignal, tellParent } from '../output/stop-signal.ts';
import { servingEngines, servingFlags, servingOptions, type ServingFlags } from '../serving/serving-flags.ts';
import { servingLine } from '../serving/serving-line.ts';

interface Options extends ServingFlags {
  coordinator: string;
  http: string;
  grpc?: string;
  dir: string;
  threads: number;
  engine: EngineName | 'auto';
  json?: boolean;
}

export function addServe(program: Command): void {
  const command = talking(program.command('serve'), 'grpc', 'nats')
    .description('predictions for any client of the Open Inference Protocol, always from the newest version')
    .argument('<models...>', 'models to serve', (text: string, before: string[] | undefined) => [
      ...(before ?? []),
      name(text),
    ])
    .option('--http <address>', 'where HTTP listens, with the page to try models on and /metrics', '127.0.0.1:8000')
    .option('--grpc <address>', 'where gRPC listens; without it there is none')
    .option('--dir <dir>', 'folder of verified versions and of what was measured', '.commonweight/serving')
    .option('--threads <n>', 'threads of one prediction', whole(1, 1024), 1)
    .option(
      '--engine <name>',
      `what runs the models: ${servingEngines.join(', ')}`,
      oneOf(...servingEngines),
      'ort-cpu',
    );
  servingFlags(command).action(serve);
}

async function serve(models: string[], options: Options): Promise<void> {
  const { coordinator, http, grpc, threads, engine } = options;
  const output = standardOutput(options);
  const signal = stopSignal();
  const onEvent = (event: ServingEvent): void => {
    tellParent(event);
    output.say(servingLine(event), { event: event.type, ...event });
  };
  const { startServing } = await import('@commonweight/edge-agent');
  const serving = await startServing({
    ...servingOptions(options),
    coordinator,
    models,
    http,
    cacheDir: resolve(options.dir),
    threads,
    engine,
    onEvent,
    ...(grpc === undefined ? {} : { grpc }),
  });
  await aborted(signal);
  output.say('ending', { event: 'ending' });
  await serving.close();
}
