import { readFile } from 'node:fs/promises';
import { exampleIn, feedbackFiles, type LabelledExample } from '@commonweight/client-sdk';
import { DataError, type Column, type Dataset } from './dataset.ts';

/** Bytes of all files of a folder. */
const BYTES_MAX = 512 * 1024 * 1024;
const LABEL_MAX = 2 ** 31 - 1;
/** The column of the classes. */
const LABEL = 'label';

/** Labelled examples that an app of this device has put into a folder (`model.feedback` of the SDK): what each input was given, and a class. */
export async function readFeedback(folder: string): Promise<Omit<Dataset, 'label'>> {
  const examples: LabelledExample[] = [];
  for (const { path, bytes } of await filesOf(folder)) examples.push(...examplesOf(await textOf(path, bytes), path));
  const [first] = examples;
  if (first === undefined) {
    throw new DataError(
      `${folder} holds no feedback yet: once the app has called model.feedback, start the agent again`,
    );
  }
  const names = Object.keys(first.inputs);
  if (names.includes(LABEL))
    throw new DataError(
      `${folder} holds feedback on an input '${LABEL}', which is what the class is called: rename it`,
    );
  const stray = examples.find(({ inputs }) => String(Object.keys(inputs)) !== String(names));
  if (stray !== undefined) {
    throw new DataError(
      `${folder} holds feedback on ${names.join(', ')} and on ${Object.keys(stray.inputs).join(', ')}: give each model a folder of its own`,
    );
  }
  const odd = examples.find(({ label }) => !(Number.isInteger(label) && label >= 0 && label <= LABEL_MAX));
  if (odd !== undefined) throw new DataError(`${folder} holds a label that is no class: ${odd.label}`);
  const inputs = names.map((name) => columnOf(name, examples, folder));
  const labels = Int32Array.from(examples, ({ label }) => label);
  const columns = [...inputs, { name: LABEL, values: labels, shape: [] }];
  return { source: folder, examples: examples.length, columns };
}

/** An input of all examples, without the dimension of its rows. */
function columnOf(name: string, examples: readonly LabelledExample[], folder: string): Column {
  const tensors = examples.map(({ inputs }) => inputs[name]!);
  const { dims, type, data } = tensors[0]!;
  const other = tensors.find((tensor) => tensor.type !== type || String(tensor.dims) !== String(dims));
  if (other !== undefined) {
    const show = (tensor: typeof other): string => `${tensor.type}[${tensor.dims.slice(1).join(', ')}]`;
    throw new DataError(
      `${folder} holds feedback on inputs of other shapes, ${show(tensors[0]!)} and ${show(other)}: give each model a folder of its own`,
    );
  }
  const shape = dims.slice(1);
  if (!ArrayBuffer.isView(data)) return { name, values: tensors.flatMap((tensor) => tensor.data as string[]), shape };
  const values = new (data.constructor as new (length: number) => Float32Array)(examples.length * data.length);
  tensors.forEach((tensor, at) => values.set(tensor.data as Float32Array, at * data.length));
  return { name, values, shape };
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
