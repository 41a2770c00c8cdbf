import type { EngineName as ServingEngine } from '@commonweight/client-sdk';
import type {
  AgentEvent,
  ConditionSetting,
  DeviceOptions,
  EngineName,
  Serving,
  ServingEvent,
} from '@commonweight/edge-agent';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { addDoctor, engines } from './agent-doctor.ts';
import { name, oneOf, share, talking, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { standardOutput, type Output } from '../output/output.ts';
import { stopSignal, tellParent } from '../output/stop-signal.ts';
import { agentLine } from '../agent/agent-line.ts';
import { condition } from '../agent/device-flags.ts';
import { servingEngines, servingFlags, servingOptions, type ServingFlags } from '../serving/serving-flags.ts';
import { servingLine } from '../serving/serving-line.ts';

interface Options extends ServingFlags {
  coordinator: string;
  data?: string;
  id: string;
  dir?: string;
  task?: string;
  betweenRounds: string;
  evaluator?: boolean;
  condition: Record<string, ConditionSetting>;
  conditionsFile?: string;
  threads?: number;
  cpuShare?: number;
  engine: EngineName | 'auto';
  calibration: boolean;
  measuring: boolean;
  serve?: string;
  serveGrpc?: string;
  serveModel: string[];
  serveEngine: ServingEngine | 'auto';
  json?: boolean;
}

export function addAgent(program: Command): void {
  const command = talking(program.command('agent'), 'grpc', 'nats')
    .description('train on data that stays here, until it is stopped')
    .option(
      '--data <spec>',
      'mnist, idx:DIR, csv:FILE, jsonl:FILE, npz:FILE, images:DIR or feedback:DIR, with ?label=COLUMN&input.NAME=COLUMNS&partition=I/N (docs/data.md)',
    )
    .option('--id <name>', 'its name among the agents; one program each', name, ownName())
    .option('--dir <dir>', 'folder of its outbox and cache (else .commonweight/agents/ID)')
    .option('--task <name>', 'serve only this task', name)
    .option(
      '--between-rounds <how>',
      'stay connected, or leave and come back when the coordinator says',
      oneOf('stay', 'leave'),
      'stay',
    )
    .option(
      '--condition <name[=how]>',
      'unmetered says that it holds, charging=no that it does not, charging=auto finds out; repeatable',
      condition,
      { charging: 'auto', idle: 'auto' },
    )
    .option('--conditions-file <file>', 'a JSON object such as { "charging": true }, read again and again; it wins')
    .option('--evaluator', 'judge by its data what others train: it is asked by name, and measures with all it has')
    .option('--threads <n>', 'threads of the training (else one for each core but one)', whole(1, 1024))
    .option('--cpu-share <share>', 'how much of all cores training may keep busy, such as 0.5', share)
    .option('--engine <name>', `what trains: auto, ${engines.join(', ')}`, oneOf('auto', ...engines), 'auto')
    .option('--no-calibration', 'do not tell the coordinator how large activations are on the data')
    .option('--no-measuring', 'do not tell the coordinator how often small forms of a version are right on the data')
    .option('--serve <address>', 'serve predictions here as well, such as 127.0.0.1:8000')
    .option('--serve-grpc <address>', 'and here over gRPC')
    .option('--serve-model <name>', 'a model to serve, else those it trains; may be repeated', names, [])
    .option('--serve-engine <name>', `what serves: ${servingEngines.join(', ')}`, oneOf(...servingEngines), 'ort-cpu');
  servingFlags(command, 'what tasks may choose by, and rollouts may know of what it serves').action(agent);
  addDoctor(command);
}

const deviceOf = ({ condition: set, conditionsFile: file, label: labels = {} }: Options): DeviceOptions => ({
  labels,
  conditions: { set, ...(file === undefined ? {} : { file: resolve(file) }) },
});

const names = (text: string, before: string[]): string[] => [...before, name(text)];

async function agent(options: Options): Promise<void> {
  const {
    coordinator,
    data,
    engine,
    id,
    task,
    threads,
    cpuShare,
    calibration: calibrates,
    measuring: measuresForms,
  } = options;
  if (data === undefined) {
    throw new UsageError('--data is missing: say what it trains on, such as --data csv:readings.csv or --data mnist');
  }
  const output = standardOutput(options);
  const dataDir = resolve(options.dir ?? join('.commonweight', 'agents', id));
  // Loaded here, so that other commands start without the engine.
  const { runAgent } = await import('@commonweight/edge-agent');
  const signal = stopSignal();
  const serving = await endpointOf({ ...options, data }, dataDir, output);
  const onEvent = (event: AgentEvent): void => {
    tellParent(event);
    output.say(agentLine(event), { event: event.type, ...event });
    if (event.type === 'assignment' && options.serveModel.length === 0) serving?.serve(event.model);
  };
  try {
    await runAgent({
      coordinator,
      data,
      agentId: id,
      dataDir,
      engine,
      calibrates,
      measuresForms,
      leavesBetweenRounds: options.betweenRounds === 'leave',
      isEvaluator: options.evaluator === true,
      device: deviceOf(options),
      signal,
      onEvent,
      ...(threads === undefined ? {} : { threads }),
      ...(cpuShare === undefined ? {} : { cpuShare }),
      ...(task === undefined ? {} : { task }),
    });
  } finally {
    await serving?.close();
  }
}

async function endpointOf(
  options: Options & { data: string },
  dataDir: string,
  output: Output,
): Promise<Serving | undefined> {
  const { serve: http, serveGrpc: grpc, serveModel: models, serveEngine: engine, coordinator } = options;
  if (http === undefined) {
    if (grpc === undefined && models.length === 0) return undefined;
    throw new UsageError('--serve is missing: say where HTTP listens, such as --serve 127.0.0.1:8000');
  }
  const onEvent = (event: ServingEvent): void => {
    tellParent(event);
    output.say(servingLine(event), { event: event.type, ...event });
  };
  const { startServing } = await import('@commonweight/edge-agent');
  return await startServing({
    // What int8 is to do well on is what this device sees.
    variantData: options.data,
    ...servingOptions(options),
    coordinator,
    http,
    models,
    engine,
    cacheDir: join(dataDir, 'serving'),
    onEvent,
    ...(grpc === undefined ? {} : { grpc }),
  });
}

/** The machine's name, made fit for a subject and a file name. */
const ownName = (): string =>
  hostname()
    .split('.')[0]
    ?.replaceAll(/[^A-Za-z0-9_-]/g, '-')
    .slice(0, 64) || 'agent';
