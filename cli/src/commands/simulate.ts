import { strategyOf } from '@commonweight/coordinator';
import {
  downlinkNames,
  lossNames,
  optimizerNames,
  readModel,
  requireTeacher,
  valueEncodings,
  type ModelProto,
} from '@commonweight/core';
import type { Dataset, Dealing } from '@commonweight/edge-agent';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { builtModel, modelKinds, type ModelShape } from '../model/model-kinds.ts';
import { readOnnx, understood } from '../model/read-onnx.ts';
import { gathered, number, oneOf, openSize, option, reporting, share, whole, wholes } from '../output/arguments.ts';
import { CommandError, UsageError } from '../output/failure.ts';
import { bar, bytes, clock, percent } from '../output/format.ts';
import { LiveView } from '../output/live-view.ts';
import { standardOutput } from '../output/output.ts';
import { stopSignal } from '../output/stop-signal.ts';
import { attackNames, type AttackName } from '../simulate/attacks.ts';
import type { RoundRecord } from '../simulate/records.ts';
import type { SimulationResults } from '../simulate/run-simulation.ts';
import { cohortOf, taskOf, type Settings } from '../simulate/settings.ts';
import { namedStrategy } from '../task/named-strategy.ts';
import { ownLoss } from '../task/own-loss.ts';
import { taskConfig, type TaskFlags } from '../task/task-flags.ts';

interface Options extends Omit<
  TaskFlags,
  'model' | 'seed' | 'rounds' | 'cohortMin' | 'cohortMax' | 'lossGraph' | 'distillFrom'
> {
  /** A file; in the settings what is in it. */
  lossGraph?: string;
  data: string;
  test?: string;
  model: string;
  hidden?: number[];
  clients: number;
  fraction: number;
  split: 'iid' | 'dirichlet' | 'shards';
  alpha?: number;
  shards?: number;
  rounds: number;
  seed: number;
  evaluateEvery: number;
  attack?: AttackName;
  attackers?: number;
  attackScale?: number;
  rootExamples?: number;
  threads?: number;
  distillFrom?: string;
  distillAlpha?: number;
  out?: string;
  json?: boolean;
}

export function addSimulate(program: Command): void {
  reporting(program.command('simulate'))
    .description(
      'run a federation of many clients in this process, without a network, to compare strategies and settings',
    )
    .option(
      '--data <spec>',
      'what the clients share: mnist, idx:DIR, csv:FILE, jsonl:FILE, npz:FILE or images:DIR',
      'mnist',
    )
    .option('--test <spec>', 'what versions are measured on (else the test split of --data)')
    .option('--model <kind or file>', `${Object.keys(modelKinds).join(', ')}, or an .onnx file`, '2nn')
    .option('--hidden <units>', 'hidden layers of mlp, such as 200,200', wholes)
    .option('--clients <n>', 'clients in all', whole(1, 100_000), 20)
    .option('--fraction <x>', 'share of them in each round', share, 1)
    .option(
      '--split <how>',
      'how data is dealt out: iid, dirichlet or shards',
      oneOf('iid', 'dirichlet', 'shards'),
      'iid',
    )
    .option('--alpha <x>', 'of dirichlet: the smaller, the less alike (1)', number(0))
    .option('--shards <n>', 'of shards: how many each client gets (2)', whole(1, 1000))
    .option('--rounds <n>', 'rounds to run', whole(1, 1_000_000), 20)
    .option('--strategy <name or file>', 'how updates become a version', 'fedAvg')
    .option('--mu <x>', 'pull towards the base weights (fedProx)', number(0))
    .option('--server-learning-rate <x>', 'step of the server', number(0))
    .option('--strategy-option <key=value>', 'another option of the strategy; repeatable', option)
    .option('--local-layers <pattern>', 'parameters that each client keeps for itself; repeatable', gathered)
    .option('--epochs <n>', 'passes over the local data', whole(1))
    .option('--batch <n>', 'examples of a step', whole(1))
    .option('--learning-rate <x>', 'of the local optimizer', number(0))
    .option('--momentum <x>', 'of sgd and nesterov', number(0))
    .option('--optimizer <name>', optimizerNames.join(', '), oneOf(...optimizerNames))
    .option('--loss <name>', 'what training makes small', oneOf(...lossNames))
    .option('--loss-graph <file>', 'a loss of your own: an ONNX graph of predictions, target and sampleWeights')
    .option('--size <name=n>', 'a size that the model leaves open besides the batch; repeatable', openSize)
    .option('--distill-from <file>', "an .onnx file: learn from this model's answers besides the labels")
    .option('--temperature <x>', 'of --distill-from: how much is said of unlikely classes (2)', number(0))
    .option('--distill-alpha <share>', 'of --distill-from: share of the loss that comes from labels (0.5)', number(0))
    .option(
      '--encoding <name>',
      'how updates are encoded: float32, mxint8 (the default) or mxint4',
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
    .option('--attack <name>', `what hostile clients do: ${attackNames.join(', ')}`, oneOf(...attackNames))
    .option('--attackers <x>', 'share of the clients that are hostile (0.2)', share)
    .option('--attack-scale <x>', 'how strong the attack is', number(0))
    .option('--root-examples <n>', 'examples that the evaluator of flTrust has (100)', whole(1))
    .option('--seed <n>', 'of everything', whole(0), 1)
    .option('--evaluate-every <n>', 'rounds from one measurement to the next', whole(1), 1)
    .option('--threads <n>', 'threads that play clients (else one for each core)', whole(1, 1024))
    .option('--out <dir>', 'folder of results.json, rounds.csv and the state: run again to go on where it stopped')
    .addHelpText(
      'after',
      '\nThis measures learning. `npm run simulate` in the sources is another thing: it plays crashes and networks on virtual time, to find bugs.',
    )
    .action(simulate);
}

async function simulate(options: Options): Promise<void> {
  const { loadDataset } = await import('@commonweight/edge-agent');
  const { runSimulation } = await import('../simulate/run-simulation.ts');
  const teacher = options.distillFrom === undefined ? undefined : await readFile(options.distillFrom);
  const own = { ...(await namedStrategy(options.strategy)), ...(await ownLoss(options.lossGraph)) };
  const settings = settingsOf({ ...options, ...own }, teacher);
  // Refused before data is read.
  const { robust } = strategyOf(taskOf(settings));
  if (settings.rootExamples !== undefined && robust?.needsRoot !== true)
    throw new UsageError('--root-examples goes with a strategy whose updates an evaluator judges, such as flTrust');
  const [train, test] = [await loadDataset(settings.data), await loadDataset(settings.test)];
  const model = await modelOf(options, train);
  if (teacher !== undefined) {
    understood(options.distillFrom!, () => requireTeacher(model, readModel(teacher), taskOf(settings).plan.loss));
  }
  const output = standardOutput(options);
  const show = !output.json && process.stdout.isTTY ? drawn(settings) : printed(options);
  const signal = stopSignal();
  const out = options.out === undefined ? {} : { out: resolve(options.out) };
  const threads = options.threads === undefined ? {} : { threads: options.threads };
  const taught = teacher === undefined ? {} : { teacher };
  const input = { settings, model, ...taught, train, test, signal, onRound: show.round, onClient: show.client };
  const { results } = await runSimulation({ ...input, ...out, ...threads });
  show.end();
  const { rounds: _, ...summary } = results;
  output.say(closing(results, options.out), { event: 'results', ...summary, roundsRun: results.rounds.length });
  if (!results.complete) {
    const mend = options.out === undefined ? 'with --out it could go on' : 'run the same command again to go on';
    throw new CommandError(`stopped after ${results.rounds.length} rounds; ${mend}`);
  }
}

function settingsOf(options: Options, teacher: Uint8Array | undefined): Settings {
  const { data, clients, fraction, rounds, seed, evaluateEvery, model, attack, attackers, attackScale, rootExamples } =
    options;
  if (attack === undefined && (attackers !== undefined || attackScale !== undefined)) {
    throw new UsageError(`--attackers and --attack-scale need --attack: choose one of ${attackNames.join(', ')}`);
  }
  if (/[?&]partition=/.test(data)) throw new UsageError('--data is dealt out by --split: leave its partition away');
  // A run may be made longer, and is the same one then.
  const { rounds: _, seed: __, distillFrom: ___, distillAlpha, alpha: ____, ...flags } = options;
  const distillation = {
    ...(teacher === undefined ? {} : { distillFrom: { name: 'teacher', version: 1 } }),
    // The other alpha is that of the split.
    ...(distillAlpha === undefined ? {} : { alpha: distillAlpha }),
  };
  const taskFlags: TaskFlags = { ...flags, ...distillation, model: 'model' };
  const isSplit = /[?&]split=/.test(data);
  if (isSplit && options.test === undefined) {
    throw new UsageError('--data names a split: say with --test what versions are measured on');
  }
  return {
    // What is tested is trained on by nobody.
    data: isSplit || isSplitItself(data) ? data : withOption(data, 'split=train'),
    test: options.test ?? withOption(data, 'split=test'),
    model,
    clients,
    fraction,
    split: splitOf(options),
    rounds,
    seed,
    evaluateEvery,
    ...(attack === undefined
      ? {}
      : {
          attack: {
            name: attack,
            share: attackers ?? 0.2,
            ...(attackScale === undefined ? {} : { scale: attackScale }),
          },
        }),
    ...(rootExamples === undefined ? {} : { rootExamples }),
    ...(teacher === undefined ? {} : { teacher: createHash('sha256').update(teacher).digest('hex') }),
    task: taskConfig(taskFlags),
  };
}

const withOption = (data: string, option: string): string => `${data}${data.includes('?') ? '&' : '?'}${option}`;

/** Kinds of data whose files say what is to train on. */
const isSplitItself = (data: string): boolean => /^(mnist|idx)\b/.test(data);

function splitOf({ split, alpha, shards }: Options): Dealing {
  if (alpha !== undefined && split !== 'dirichlet') throw new UsageError('--alpha goes with --split dirichlet');
  if (shards !== undefined && split !== 'shards') throw new UsageError('--shards goes with --split shards');
  switch (split) {
    case 'iid':
      return { by: 'iid' };
    case 'dirichlet':
      return { by: 'dirichlet', alpha: alpha ?? 1 };
    case 'shards':
      return { by: 'shards', shards: shards ?? 2 };
  }
}

async function modelOf({ model, hidden, seed }: Options, data: Dataset): Promise<ModelProto> {
  if (!Object.hasOwn(modelKinds, model)) return await readOnnx(model);
  const { classCount, valuesOfExample } = await import('@commonweight/edge-agent');
  const sizes = modelKinds[model]?.sizes ?? [];
  const shape: ModelShape = { seed };
  if (sizes.includes('inputs')) shape.inputs = valuesOfExample(data);
  if (sizes.includes('outputs')) shape.outputs = classCount(data) ?? Math.max(1, data.label.length);
  if (hidden !== undefined) shape.hidden = hidden;
  return builtModel(model, shape);
}

interface Show {
  round(record: RoundRecord, rounds: number): void;
  client?: ((round: number, done: number, of: number) => void) | undefined;
  end(): void;
}

const lineOf = ({ round, accuracy, loss, testLoss, refused, leftOut, seconds }: RoundRecord, rounds: number): string =>
  [
    `round ${round}/${rounds}`,
    `loss ${loss.toFixed(4)}`,
    ...(accuracy !== null
      ? [`${percent(accuracy)} right`]
      : testLoss === null
        ? []
        : [`test loss ${testLoss.toPrecision(4)}`]),
    ...(refused === 0 ? [] : [`${refused} refused`]),
    ...(leftOut === 0 ? [] : [`${leftOut} left out`]),
    `${seconds.toFixed(1)} s`,
  ].join(', ');

function printed(options: Options): Show {
  const output = standardOutput(options);
  return {
    round: (record, rounds) => output.say(lineOf(record, rounds), { event: 'round', ...record }),
    end: () => {},
  };
}

/** A bar of the rounds and one of the clients, drawn again in their place. */
function drawn(settings: Settings): Show {
  const view = new LiveView(process.stdout);
  const startMs = performance.now();
  let [last, first, done] = ['', 0, 0];
  const draw = (clients: number, of: number): void => {
    const ran = done - first;
    const elapsed = performance.now() - startMs;
    const left = ran === 0 ? '' : `, ${clock((elapsed / ran) * (settings.rounds - done))} left`;
    view.draw([
      `rounds   ${bar(done, settings.rounds, 30)} ${done}/${settings.rounds}, ${clock(elapsed)}${left}`,
      `clients  ${bar(clients, of, 30)} ${clients}/${of}`,
      last,
    ]);
  };
  return {
    round: (record, rounds) => {
      if (done === 0) first = record.round - 1;
      [last, done] = [lineOf(record, rounds), record.round];
      draw(0, cohortOf(settings));
    },
    client: (_, clients, of) => draw(clients, of),
    end: () => view.end(),
  };
}

function closing(
  { settings, strategy, rounds, finalAccuracy, bestAccuracy, personalAccuracy }: SimulationResults,
  out?: string,
): string {
  const total = (of: (record: RoundRecord) => number): number => rounds.reduce((sum, record) => sum + of(record), 0);
  const shown = (share: number | null): string => (share === null ? 'not measured' : percent(share));
  const testLoss = rounds.at(-1)?.testLoss ?? null;
  const outcome =
    finalAccuracy === null && testLoss !== null
      ? `a loss of ${testLoss.toPrecision(4)} on what nobody trains on`
      : `${shown(finalAccuracy)} right at the end, ${shown(bestAccuracy)} at best`;
  return [
    `${strategy}: ${rounds.length} rounds of ${cohortOf(settings)} of ${settings.clients} clients; ${outcome}`,
    `  ${bytes(total(({ payloadBytes }) => payloadBytes))} sent, ${bytes(total(({ downloadBytes }) => downloadBytes))} fetched`,
    ...(personalAccuracy === null
      ? []
      : [`  the clients' own models: ${percent(personalAccuracy)} on examples like their own`]),
    ...(out === undefined ? [] : [`  ${join(out, 'results.json')}, ${join(out, 'rounds.csv')}`]),
  ].join('\n');
}
