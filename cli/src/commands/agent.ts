import type { AgentEvent } from '@commonweight/edge-agent';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { name, talking, whole } from '../output/arguments.ts';
import { standardOutput } from '../output/output.ts';
import { stopSignal, tellParent } from '../output/stop-signal.ts';
import { agentLine } from '../agent/agent-line.ts';

interface Options {
  coordinator: string;
  data: string;
  id: string;
  dir?: string;
  task?: string;
  threads: number;
  json?: boolean;
}

export function addAgent(program: Command): void {
  talking(program.command('agent'), 'grpc', 'nats')
    .description('train on data that stays here, until it is stopped')
    .requiredOption('--data <spec>', 'mnist, idx:DIR or csv:FILE, with ?partition=I/N&alpha=A&seed=S&split=train')
    .option('--id <name>', 'its name among the agents; one program each', name, ownName())
    .option('--dir <dir>', 'folder of its outbox and cache (else .commonweight/agents/ID)')
    .option('--task <name>', 'serve only this task', name)
    .option('--threads <n>', 'threads of the training', whole(1, 1024), 1)
    .action(agent);
}

async function agent(options: Options): Promise<void> {
  const { coordinator, data, id, task, threads } = options;
  const output = standardOutput(options);
  const onEvent = (event: AgentEvent): void => {
    tellParent(event);
    output.say(agentLine(event), { event: event.type, ...event });
  };
  // Loaded here, so that other commands start without the engine.
  const { runAgent } = await import('@commonweight/edge-agent');
  await runAgent({
    coordinator,
    data,
    agentId: id,
    dataDir: resolve(options.dir ?? join('.commonweight', 'agents', id)),
    threads,
    signal: stopSignal(),
    onEvent,
    ...(task === undefined ? {} : { task }),
  });
}

/** The machine's name, made fit for a subject and a file name. */
const ownName = (): string =>
  hostname()
    .split('.')[0]
    ?.replaceAll(/[^A-Za-z0-9_-]/g, '-')
    .slice(0, 64) || 'agent';
