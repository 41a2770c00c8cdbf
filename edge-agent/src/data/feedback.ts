import { readFile } from 'node:fs/promises';
import { exampleIn, feedbackFiles, type LabelledExample } from '@commonweight/client-sdk';
import { DataError, type Dataset } from './dataset.ts';

/** Bytes of all files of a folder. */
const BYTES_MAX = 512 * 1024 * 1024;
const LABEL_MAX = 2 ** 31 - 1;

/** Labelled examples that an app of this device has put into a folder (`model.feedback` of the SDK): one input of numbers, and a class. */
export async function readFeedback(folder: string): Promise<Dataset> {
  const examples: LabelledExample[] = [];
  for (const { path, bytes } of await filesOf(folder)) examples.push(...examplesOf(await textOf(path, bytes), path));
  const [first] = examples;
  if (first === undefined) {
    throw new DataError(
      `${folder} holds no feedback yet: once the app has called model.feedback, start the agent again`,
    );
  }
  const { name, shape } = inputOf(first, folder);
  const size = shape.reduce((product, dim) => product * dim, 1);
  const inputs = new Float32Array(examples.length * size);
  const labels = new Int32Array(examples.length);
  examples.forEach((example, at) => {
    const input = inputOf(example, folder);
    if (input.name !== name || String(input.shape) !== String(shape)) {
      throw new DataError(
        `${folder} holds feedback on inputs of other shapes, [${shape.join(', ')}] and [${input.shape.join(', ')}]: give each model a folder of its own`,
      );
    }
    inputs.set(Float32Array.from(input.data, Number), at * size);
    if (!(Number.isInteger(example.label) && example.label >= 0 && example.label <= LABEL_MAX))
      throw new DataError(`${folder} holds a label that is no class: ${example.label}`);
    labels[at] = example.label;
  });
  const classes = labels.reduce((max, label) => Math.max(max, label), 0) + 1;
  return { inputs, inputShape: shape, labels, classes, examples: examples.length };
}

/** A text that changes where there is more feedback, or other. */
export async function feedbackState(folder: string): Promise<string> {
  return (await filesOf(folder)).map(({ number, bytes }) => `${number} ${bytes}`).join(',');
}

async function filesOf(folder: string): ReturnType<typeof feedbackFiles> {
  try {
    const files = await feedbackFiles(folder);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    if (bytes > BYTES_MAX)
      throw new DataError(`${folder} has ${bytes} bytes of feedback; up to ${BYTES_MAX} are read: delete old files`);
    return files;
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`cannot read ${folder}: ${(cause as Error).message}`, { cause });
  }
}

/** As much as there was when the folder was looked at: the app may be writing on. */
async function textOf(path: string, bytes: number): Promise<string> {
  try {
    return (await readFile(path)).subarray(0, bytes).toString('utf8');
  } catch (cause) {
    // The app has made room for newer ones.
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

function examplesOf(text: string, path: string): LabelledExample[] {
  const lines = text.split('\n');
  // After the last line break there is nothing, or what a crash cut off.
  return lines.slice(0, -1).map((line, i) => {
    try {
      return exampleIn(line);
    } catch (cause) {
      throw new DataError(
        `${path} line ${i + 1} is damaged (${(cause as Error).message}): delete the line or the file`,
        {
          cause,
        },
      );
    }
  });
}

/** The one input of an example, without the dimension of its rows. */
function inputOf(
  { inputs }: LabelledExample,
  folder: string,
): { name: string; shape: number[]; data: ArrayLike<number | bigint> } {
  const [[name, tensor] = [], ...others] = Object.entries(inputs);
  if (name === undefined || tensor === undefined || others.length > 0)
    throw new DataError(`${folder} holds feedback on ${others.length + 1} inputs; agents train on models of one`);
  return { name, shape: tensor.dims.slice(1), data: tensor.data };
}
