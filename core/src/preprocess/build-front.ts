import { ConfigError } from '../errors.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { FrontWriter } from './front-writer.ts';
import { preprocessSteps } from './steps.ts';
import type { Written } from './steps.ts';

/** One step, as somebody wrote it: `{ step: 'one-hot', text: 'city=Rome,Oslo' }`. */
export interface PreprocessStep {
  step: string;
  text: string;
  /** Of the file that the text names, where the step takes one. */
  lines?: readonly string[];
}

/** What goes into one of a model's inputs. */
export interface PreprocessOutput {
  name: string;
  steps: readonly PreprocessStep[];
}

/** Writes a graph to stand in front of a model: the steps of each output one beside the other, or of an image one after the other. */
export function buildPreprocess(outputs: readonly PreprocessOutput[]): ModelProto {
  if (outputs.length === 0 || outputs.some(({ steps }) => steps.length === 0)) {
    throw new ConfigError(
      `there is nothing to do: give steps, such as --normalise age=40,12; there are ${Object.keys(preprocessSteps).join(', ')}`,
    );
  }
  const twice = outputs.find(({ name }, index) => outputs.findIndex((one) => one.name === name) !== index);
  if (twice !== undefined)
    throw new ConfigError(`two outputs are named ${twice.name}; give each input of the model one`, twice.name);
  const writer = new FrontWriter();
  for (const { name, steps } of outputs) {
    const written: Written[] = [];
    for (const { step, text, lines } of steps) {
      const row = Object.hasOwn(preprocessSteps, step) ? preprocessSteps[step] : undefined;
      if (row === undefined)
        throw new ConfigError(`step ${step} is not known; there are ${Object.keys(preprocessSteps).join(', ')}`, step);
      const last = written.at(-1);
      const image = last?.kind === 'image' ? last : undefined;
      const result = row.write(text, { writer, ...(image === undefined ? {} : { image }) }, lines);
      // An image goes on where the last step left it.
      if (image !== undefined && result.kind === 'image') written.pop();
      written.push(result);
    }
    close(writer, name, written);
  }
  return writer.model();
}

function close(writer: FrontWriter, name: string, written: readonly Written[]): void {
  const [first, ...others] = written as [Written, ...Written[]];
  const values = written.map(({ value }) => value);
  const odd = others.find(({ kind }) => kind !== 'features' || first.kind !== 'features');
  if (odd !== undefined) {
    throw new ConfigError(
      `output ${name} is made of ${first.kind} and of ${odd.kind}, which do not go together; begin another with --into NAME`,
      name,
    );
  }
  switch (first.kind) {
    case 'features': {
      const width = written.reduce((sum, one) => sum + (one.kind === 'features' ? one.width : 0), 0);
      writer.emit(values.length === 1 ? 'Identity' : 'Concat', values, values.length === 1 ? {} : { axis: 1 }, {
        output: writer.output(name, 'float', [width]),
      });
      return;
    }
    case 'tokens':
      writer.emit('Identity', values, {}, { output: writer.output(name, 'int64', [first.length]) });
      return;
    case 'image': {
      const { channels, height, width } = first;
      writer.emit('Identity', values, {}, { output: writer.output(name, 'float', [channels, height, width]) });
    }
  }
}
