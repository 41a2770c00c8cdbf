import {
  distillationDefaults,
  joinModel,
  optimizerNames,
  parsePlan,
  readModel,
  requireTeacher,
  splitModel,
  writeModel,
  type ModelProto,
  type TrainingPlan,
} from '@commonweight/core';
import type { Dataset } from '@commonweight/edge-agent';
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { builtModel, modelKinds, type ModelShape } from '../model/model-kinds.ts';
import { readOnnx, understood } from '../model/read-onnx.ts';
import { fileOrVersion } from '../model/registered-model.ts';
import { latenciesOfBoth, measured, rowsOf } from '../model/teacher-and-student.ts';
import { testSplitOf } from '../model/test-split.ts';
import { number, oneOf, talking, whole, wholes } from '../output/arguments.ts';
import { table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  coordinator: string;
  student: string;
  hidden?: number[];
  data: string;
  test?: string;
  out: string;
  epochs: number;
  batch: number;
  optimizer: string;
  learningRate: number;
  temperature: number;
  alpha: number;
  seed: number;
  threads: number;
  json?: boolean;
}

export function addModelDistill(model: Command): void {
  talking(model.command('distill'), 'grpc')
    .description("train a small model on this machine from a large one's answers")
    .argument('<teacher>', 'an ONNX file, or a version of a registered model: FILE.onnx, digits, digits@3')
    .requiredOption('--student <kind or file>', `${Object.keys(modelKinds).join(', ')}, or an .onnx file`)
    .option('--hidden <units>', 'hidden layers of mlp, such as 32,32', wholes)
    .requiredOption('--data <spec>', 'examples to learn from, such as "mnist?split=train"')
    .option('--test <spec>', 'examples to measure both on (else the test split of --data)')
    .requiredOption('--out <file>', 'where to write the student')
    .option('--epochs <n>', 'passes over the data', whole(1, 10_000), 5)
    .option('--batch <n>', 'examples of a step', whole(1, 65_536), 32)
    .option('--optimizer <name>', optimizerNames.join(', '), oneOf(...optimizerNames), 'adam')
    .option('--learning-rate <x>', 'of the optimizer', number(0), 0.001)
    .option('--temperature <x>', 'how much is said of unlikely classes', number(0), distillationDefaults.temperature)
    .option('--alpha <share>', 'share of the loss that comes from labels', number(0), distillationDefaults.alpha)
    .option('--seed <n>', 'of first weights and of the order of examples', whole(0), 1)
    .option('--threads <n>', 'of the training', whole(1, 1024), 1)
    .action(distill);
}

async function distill(text: string, options: Options): Promise<void> {
  const { data, epochs, batch, optimizer, learningRate, temperature, alpha } = options;
  const plan = parsePlan({
    loss: 'cross-entropy',
    optimizer: { name: optimizer, learningRate },
    epochs: 1,
    batchSize: batch,
    distillation: { temperature, alpha },
  });
  const { model: teacher, bytes: teacherBytes, source } = await fileOrVersion(text, options.coordinator);
  const { loadDataset } = await import('@commonweight/edge-agent');
  const train = await loadDataset(data);
  const test = options.test ?? testSplitOf(data);
  const held = await loadDataset(test);
  const student = await studentOf(options, train);
  understood(source, () => requireTeacher(student, teacher, plan.loss));
  const output = standardOutput(options);
  const taught = await trained(
    student,
    { teacher, train, plan, epochs, seed: options.seed, threads: options.threads },
    (epoch, loss) => {
      if (output.json) output.say('', { event: 'progress', epoch, of: epochs, loss });
      else process.stderr.write(`epoch ${epoch} of ${epochs}, loss ${loss.toFixed(4)}\n`);
    },
  );
  const onnx = writeModel(taught);
  await writeFile(options.out, onnx);
  const [teacherMs, studentMs] = await latenciesOfBoth(teacher, taught, test);
  const big = { ...(await measured(teacher, held, options.threads)), bytes: teacherBytes, latencyMs: teacherMs };
  const small = { ...(await measured(taught, held, options.threads)), bytes: onnx.length, latencyMs: studentMs };
  output.say(
    [
      `${options.out}: a student of ${source}, measured on ${held.examples.toLocaleString('en')} examples of ${test}`,
      table(['', 'teacher', 'student', ''], rowsOf(big, small)),
    ].join('\n'),
    {
      event: 'distilled',
      file: options.out,
      source,
      bytes: onnx.length,
      measuredOn: test,
      examples: held.examples,
      teacher: big,
      student: small,
    },
  );
}

async function studentOf({ student, hidden, seed }: Options, data: Dataset): Promise<ModelProto> {
  if (!Object.hasOwn(modelKinds, student)) return await readOnnx(student);
  const { classCount, valuesOfExample } = await import('@commonweight/edge-agent');
  const classes = classCount(data);
  const sizes = modelKinds[student]?.sizes ?? [];
  const shape: ModelShape = {
    seed,
    ...(sizes.includes('inputs') ? { inputs: valuesOfExample(data) } : {}),
    ...(sizes.includes('outputs') && classes !== undefined ? { outputs: classes } : {}),
    ...(hidden === undefined ? {} : { hidden }),
  };
  return builtModel(student, shape);
}

interface Lesson {
  teacher: ModelProto;
  train: Dataset;
  plan: TrainingPlan;
  epochs: number;
  seed: number;
  threads: number;
}

/** As an agent would train it, epoch by epoch. */
async function trained(
  student: ModelProto,
  { teacher, train, plan, epochs, seed, threads }: Lesson,
  onEpoch: (epoch: number, loss: number) => void,
): Promise<ModelProto> {
  const { LoadedGraphs, LoadedTeacher, LocalTrainer, openEngine } = await import('@commonweight/edge-agent');
  const engine = await openEngine('ort-cpu', { threads });
  const [graphs, loaded] = [new LoadedGraphs(engine, 1), new LoadedTeacher(engine)];
  const trainer = new LocalTrainer(train, graphs, loaded);
  const { graph, weights: first } = splitModel(student);
  const onnx = writeModel(teacher);
  let weights = first;
  try {
    for (let epoch = 1; epoch <= epochs; epoch++) {
      const job = {
        graph,
        weights,
        plan,
        seed: BigInt(seed) * 1_000_003n + BigInt(epoch),
        teacher: { key: 'teacher', onnx },
      };
      const result = await trainer.train(job);
      weights = result.weights;
      onEpoch(epoch, result.loss);
    }
  } finally {
    await graphs.release();
    await loaded.release();
    await engine.release();
  }
  return readModel(joinModel(readModel(graph), weights));
}
