import { Backoff, sleep, TransportError } from '@commonweight/client-sdk';
import { parseConfig } from '@commonweight/coordinator';
import {
  calibrationMethods,
  ConfigError,
  downlinkNames,
  lossNames,
  optimizerNames,
  strategies,
  valueEncodings,
} from '@commonweight/core';
import type { TaskStatus } from '@commonweight/proto';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { CALIBRATION_AGENTS, FORM_NAMES } from '../model/form-wishes.ts';
import {
  gathered,
  name,
  names,
  number,
  oneOf,
  openSize,
  option,
  share,
  talking,
  versionedName,
  whole,
} from '../output/arguments.ts';
import { CommandError, describeError, refusedIsUsage } from '../output/failure.ts';
import { table } from '../output/format.ts';
import { LiveView } from '../output/live-view.ts';
import { standardOutput, type Output } from '../output/output.ts';
import { stopSignal } from '../output/stop-signal.ts';
import { namedStrategy } from '../task/named-strategy.ts';
import { ownLoss } from '../task/own-loss.ts';
import { showResults } from '../task/results.ts';
import { taskConfig, type TaskFlags } from '../task/task-flags.ts';
import { taskBlock, taskLine, taskRecord } from '../task/task-view.ts';

interface Options {
  coordinator: string;
  json?: boolean;
}

export function addTask(program: Command): void {
  const task = program.command('task').description('federated work: create, start, pause, show, list and watch tasks');
  talking(task.command('create'), 'grpc')
    .description('bind a model to a plan, a strategy and a cohort')
    .argument('<name>', 'the name of the task', name)
    .option('--config <file>', 'a configuration as JSON; flags win over it')
    .option('--model <name>', 'the model to improve, or to measure', name)
    .option(
      '--kind <name>',
      'train it, evaluate each version of it, or count what agents have (statistics)',
      oneOf('train', 'evaluate', 'statistics'),
      'train',
    )
    .option(
      '--strategy <name>',
      'how updates become a version: a name, or the file of one that the coordinator has loaded',
    )
    .option(
      '--local-layers <pattern>',
      'parameters that each agent keeps for itself, such as "output*"; repeatable',
      gathered,
    )
    .option('--mu <x>', 'pull towards the base weights (fedProx)', number(0))
    .option('--server-learning-rate <x>', 'step of the server: 1 takes the mean update as it is', number(0))
    .option('--strategy-option <key=value>', 'another option of the strategy, such as beta1=0.9; repeatable', option)
    .option('--rounds <n>', 'versions to publish; 0 is for ever', whole(0))
    .option('--cohort-min <n>', 'updates that a round needs', whole(1))
    .option('--cohort-max <n>', 'updates that close a round, and agents that it invites', whole(1))
    .option('--over-selection <x>', 'agents to invite for each update that is needed: 1.3 are 30 % more', number(1))
    .option('--separation <n>', 'rounds that an agent is left out of after one that it is counted in', whole(0))
    .option(
      '--where <condition>',
      'agents that may be invited: site=north, engine=cuda, memory=2048, cores=4, examples=100, charging ...; repeatable',
      gathered,
    )
    .option('--evaluator <agent>', 'an agent with data that others are judged by; repeatable', gathered)
    .option('--gate-norm <factor>', 'refuse a step that is longer than this many times the usual one', number(1))
    .option('--gate-norm-rounds <n>', 'versions whose steps are the usual ones (10)', whole(3, 100))
    .option('--gate-metric <name>', 'have agents measure what a round made, before it is a version')
    .option('--gate-margin <x>', 'how much worse than the version before it may be (0)', number(0))
    .option('--gate-min <n>', 'agents that must have measured it', whole(1))
    .option('--gate-max <n>', 'agents that are asked to', whole(1))
    .option('--gate-ms <n>', 'how long they are waited for (60000)', whole(1))
    .option('--features <how>', 'statistics of each input by itself, or of all together', oneOf('each', 'all'))
    .option('--precision-bits <n>', 'statistics: bins are 2^-n of what is in them wide (3)', whole(0, 10))
    .option('--range <low..high>', 'statistics: powers of two between which values are told apart (-16..16)')
    .option('--classes <n>', 'statistics: labels that are counted one by one', whole(0))
    .option('--epochs <n>', 'passes over the local data', whole(1))
    .option('--batch <n>', 'examples of a step', whole(1))
    .option('--learning-rate <x>', 'of the local optimizer', number(0))
    .option('--momentum <x>', 'of sgd and nesterov', number(0))
    .option('--optimizer <name>', optimizerNames.join(', '), oneOf(...optimizerNames))
    .option('--loss <name>', 'what training makes small', oneOf(...lossNames))
    .option('--loss-graph <file>', 'a loss of your own: an ONNX graph of predictions, target and sampleWeights')
    .option(
      '--size <name=n>',
      'a size that the model leaves open besides the batch, such as sequence=128; repeatable',
      openSize,
    )
    .option('--metrics <names>', 'what agents measure of each version before they train it, such as accuracy,f1', names)
    .option('--hold-out <share>', "of an agent's examples, to measure with and never train on (0.1)", number(0))
    .option(
      '--encoding <name>',
      'how updates travel: float32, mxint8 (the default) or mxint4',
      oneOf(...Object.keys(valueEncodings)),
    )
    .option('--top-k <share>', 'send this share of the values alone, the largest; the rest follows later', share)
    .option('--rotate', 'turn updates at random before they are encoded, so that no value stands out: helps few bits')
    .option('--compression <how>', 'of updates where it pays: zstd (the default) or none', oneOf('zstd', 'none'))
    .option(
      '--downlink <name>',
      `round versions, so that who has the last one fetches a small delta: ${downlinkNames.join(', ')}`,
      oneOf(...downlinkNames),
    )
    .option('--collect-ms <n>', 'how long a round waits for updates', whole(1))
    .option('--collect-min-ms <n>', 'after this the minimum of updates is enough; else all are waited for', whole(0))
    .option('--pause-ms <n>', 'between two rounds', whole(0))
    .option('--retain-updates <n>', 'newest versions whose updates are kept, for `model audit`; 0 is none', whole(0))
    .option('--buffer-size <n>', 'work without rounds: a version of every n updates, with any strategy', whole(1))
    .option('--staleness-max <n>', 'without rounds: versions that an update may be behind', whole(0))
    .option('--seed <n>', 'of all randomness of the task', whole(0))
    .option('--variants <forms>', `have forms of each version made: ${FORM_NAMES}`, names)
    .option(...CALIBRATION_AGENTS)
    .option(
      '--calibration-method <name>',
      `how those ranges are chosen: ${calibrationMethods.join(', ')} (minmax)`,
      oneOf(...calibrationMethods),
    )
    .option('--distill-from <model[@version]>', "learn from another model's answers besides the labels", versionedName)
    .option('--temperature <x>', 'of --distill-from: how much is said of unlikely classes (2)', number(0))
    .option('--alpha <share>', 'of --distill-from: share of the loss that comes from labels (0.5)', number(0))
    .option('--variants-drop-max <points>', 'points of accuracy that a form may lose', number(0))
    .option('--start', 'start it at once')
    .action(createTask);
  talking(task.command('start'), 'grpc')
    .description('start or resume a task')
    .argument('<name>', 'a task', name)
    .action(startTask);
  talking(task.command('pause'), 'grpc')
    .description('pause a task after its open round')
    .argument('<name>', 'a task', name)
    .action(pauseTask);
  talking(task.command('show'), 'grpc')
    .description('how a task stands')
    .argument('<name>', 'a task', name)
    .action(showTask);
  talking(task.command('list'), 'grpc').description('all tasks').action(listTasks);
  talking(task.command('results'), 'grpc')
    .description('what an evaluation or statistics came to')
    .argument('<name>', 'a task', name)
    .option('--round <n>', 'which round; without it, the newest', whole(1))
    .action(showResults);
  talking(task.command('watch'), 'grpc')
    .description('follow a task until it is finished')
    .argument('<name>', 'a task', name)
    .action(watchTask);
}

async function createTask(
  task: string,
  options: Options & Omit<TaskFlags, 'lossGraph'> & { config?: string; lossGraph?: string; start?: boolean },
): Promise<void> {
  const file = options.config === undefined ? {} : jsonObject(await readFile(options.config, 'utf8'), options.config);
  const { lossGraph, ...flags } = options;
  const own = { ...(await namedStrategy(options.strategy)), ...(await ownLoss(lossGraph)) };
  const config = taskConfig({ ...flags, ...own }, file);
  const { name: strategy } = (config['strategy'] ?? {}) as { name?: string };
  // A strategy that only the coordinator has loaded is for the coordinator to check.
  if (strategy === undefined || Object.hasOwn(strategies, strategy)) parseConfig(JSON.stringify(config));
  const status = await withAdmin(options.coordinator, async (admin) => {
    const created = await refusedIsUsage(() => admin.createTask(task, config));
    return options.start === true ? await admin.startTask(task) : created;
  });
  sayTask(status, options);
}

async function startTask(task: string, options: Options): Promise<void> {
  sayTask(await withAdmin(options.coordinator, (admin) => admin.startTask(task)), options);
}

async function pauseTask(task: string, options: Options): Promise<void> {
  sayTask(await withAdmin(options.coordinator, (admin) => admin.pauseTask(task)), options);
}

async function showTask(task: string, options: Options): Promise<void> {
  const status = await withAdmin(options.coordinator, (admin) => admin.getTask(task));
  standardOutput(options).say(taskBlock(status).join('\n'), taskRecord(status));
}

async function listTasks(options: Options): Promise<void> {
  const tasks = await withAdmin(options.coordinator, (admin) => admin.listTasks());
  const output = standardOutput(options);
  if (output.json) return tasks.forEach((status) => output.say('', taskRecord(status)));
  const rows = tasks.map((t) => [
    t.task,
    t.model,
    t.state,
    String(t.round),
    String(t.version),
    `${t.updatesAccepted}/${t.updatesRejected}`,
  ]);
  const none = 'no tasks yet: `commonweight task create NAME --model MODEL` makes one';
  output.say(
    rows.length === 0 ? none : table(['task', 'model', 'state', 'round', 'version', 'accepted/rejected'], rows),
    {},
  );
}

async function watchTask(task: string, options: Options): Promise<void> {
  const signal = stopSignal();
  const output = standardOutput(options);
  const show = output.json || !process.stdout.isTTY ? sayChanges(output) : drawing(new LiveView(process.stdout));
  const backoff = new Backoff();
  let known = false;
  await withAdmin(options.coordinator, async (admin) => {
    while (!signal.aborted) {
      try {
        for await (const status of admin.watchTask(task, signal)) {
          known = true;
          backoff.connected();
          show(status);
          if (status.state === 'finished') return;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!known || !(error instanceof TransportError && error.passing)) throw error;
        process.stderr.write(`${describeError(error)}; trying again\n`);
      }
      await sleep(Math.min(backoff.nextMs(), 5000), signal);
    }
  });
}

/** Says a status only where its line differs from the one before. */
function sayChanges(output: Output): (status: TaskStatus) => void {
  let last = '';
  return (status) => {
    const line = taskLine(status);
    if (line !== last) output.say(line, taskRecord(status));
    last = line;
  };
}

const drawing =
  (view: LiveView): ((status: TaskStatus) => void) =>
  (status) =>
    view.draw(taskBlock(status));

const sayTask = (status: TaskStatus, options: Options): void =>
  standardOutput(options).say(taskLine(status), taskRecord(status));

function jsonObject(text: string, file: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new ConfigError(`${file} is not JSON: ${(cause as Error).message}`, undefined, { cause });
  }
  throw new CommandError(`${file} holds no JSON object; write { "model": ..., "plan": ... }`);
}
