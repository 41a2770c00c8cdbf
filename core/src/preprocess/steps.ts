import { ConfigError } from '../errors.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { FrontWriter } from './front-writer.ts';

const { FLOAT, INT64 } = TensorProto_DataType;

/** What a step writes: numbers beside those of other steps, or the whole of an output. */
export type Written =
  | { kind: 'features'; value: string; width: number }
  | { kind: 'tokens'; value: string; length: number }
  | { kind: 'image'; value: string; channels: number; height: number | string; width: number | string };

export interface StepSite {
  writer: FrontWriter;
  /** The image that a step goes on with, where there is one. */
  image?: Extract<Written, { kind: 'image' }>;
}

export interface StepRow {
  /** As people write it behind `--name`. */
  usage: string;
  help: string;
  /** Reads the text and writes the step. `lines` are those of the file that the text names, of a step that takes one. Throws ConfigError. */
  write(text: string, site: StepSite, lines?: readonly string[]): Written;
  /** The file that a step reads its words from. */
  file?(text: string): string;
}

const limits = { values: 100_000, buckets: 1_000_000, words: 1_000_000, length: 65_536, side: 8_192 };

/** One row per step; a step's name is its flag. */
export const preprocessSteps: Readonly<Record<string, StepRow>> = {
  number: {
    usage: 'COLUMN',
    help: 'a column of numbers as they are',
    write: (text, { writer }) => features(writer.input(text, 'float', [1]), 1),
  },
  normalise: {
    usage: 'COLUMN=MEAN,DEVIATION',
    help: 'a column of numbers, less its mean, by its deviation; without a column the image, a mean and a deviation for each channel: 0.5:0.4:0.4,0.2:0.2:0.2',
    write: (text, { writer, image }) => {
      if (!text.includes('=')) return normalisedImage(text, writer, image);
      const [column, rest] = columnAnd(text, 'normalise');
      const [mean = NaN, deviation = NaN, ...more] = numbersIn(rest, 'normalise');
      if (more.length > 0 || !(deviation > 0))
        throw fault('normalise', `${text}: give COLUMN=MEAN,DEVIATION, such as age=40,12`);
      const centred = writer.emit('Sub', [writer.input(column, 'float', [1]), writer.floats([mean], [])]);
      return features(writer.emit('Div', [centred, writer.floats([deviation], [])]), 1);
    },
  },
  bucket: {
    usage: 'COLUMN=A,B,C',
    help: 'a column of numbers as which of the spans below, between and above these bounds it lies in, one number a span',
    write: (text, { writer }) => {
      const [column, rest] = columnAnd(text, 'bucket');
      const bounds = numbersIn(rest, 'bucket');
      if (bounds.some((bound, index) => index > 0 && bound <= bounds[index - 1]!))
        throw fault('bucket', `${text}: let bounds grow`);
      const reached = writer.emit('GreaterOrEqual', [
        writer.input(column, 'float', [1]),
        writer.floats(bounds, [1, bounds.length]),
      ]);
      const counts = writer.emit('Cast', [reached], { to: INT64 });
      const place = writer.emit('ReduceSum', [counts, writer.integers([1])], { keepdims: 1 });
      return oneHot(writer, place, bounds.length + 1);
    },
  },
  'one-hot': {
    usage: 'COLUMN=A,B,C',
    help: 'a column of texts as one number for each of these; another text is none of them',
    write: (text, { writer }) => {
      const [column, rest] = columnAnd(text, 'one-hot');
      const values = rest.split(',');
      if (new Set(values).size !== values.length || values.length > limits.values) {
        throw fault('one-hot', `${text.slice(0, 80)}: give up to ${limits.values} texts, each once`);
      }
      return oneHot(
        writer,
        coded(writer, writer.input(column, 'string', [1]), values, { other: values.length }),
        values.length,
      );
    },
  },
  hash: {
    usage: 'COLUMN=BUCKETS',
    help: 'a column of texts, each in the bucket that its hash says: one number a bucket (Weinberger et al. 2009)',
    write: (text, { writer }) => {
      const [column, rest] = columnAnd(text, 'hash');
      const buckets = wholeIn(rest, 'hash', limits.buckets);
      const hash = writer.emit(
        'MurmurHash3',
        [writer.input(column, 'string', [1])],
        { positive: 1, seed: 0 },
        { domain: 'com.microsoft' },
      );
      const bucket = writer.emit('Cast', [writer.emit('Mod', [hash, writer.unsigned(buckets)])], { to: INT64 });
      return oneHot(writer, bucket, buckets);
    },
  },
  tokens: {
    usage: 'COLUMN=FILE,LENGTH',
    help: 'a column of texts as numbers of its words, which stand in a file, one a line: [PAD] fills up, [UNK] is any other word',
    file: (text) => lengthened(text).rest,
    write: (text, { writer }, lines = []) => {
      const { column, length } = lengthened(text);
      return { kind: 'tokens', value: tokens(writer, column, lines, length), length };
    },
  },
  mask: {
    usage: 'COLUMN=FILE,LENGTH',
    help: 'which of the same tokens are words',
    file: (text) => lengthened(text).rest,
    write: (text, { writer }, lines = []) => {
      const { column, length } = lengthened(text);
      const pad = writer.integers([idsOf(lines).pad], []);
      const isPad = writer.emit('Equal', [tokens(writer, column, lines, length), pad]);
      return { kind: 'tokens', value: writer.emit('Cast', [writer.emit('Not', [isPad])], { to: INT64 }), length };
    },
  },
  image: {
    usage: 'WIDTHxHEIGHTxCHANNELS',
    help: 'an image of bytes, [channels, height, width], as floats from 0 to 1; ?x?x3 is of any size',
    write: (text, { writer }) => {
      const [, across, down, depth] = /^(\?|\d{1,4})x(\?|\d{1,4})x([1-4])$/.exec(text) ?? [];
      if (across === undefined || down === undefined)
        throw fault('image', `${text}: give WIDTHxHEIGHTxCHANNELS, such as 28x28x1`);
      const [width, height] = [across === '?' ? 'width' : Number(across), down === '?' ? 'height' : Number(down)];
      const channels = Number(depth);
      const pixels = writer.emit('Cast', [writer.input('image', 'uint8', [channels, height, width])], { to: FLOAT });
      return { kind: 'image', value: writer.emit('Div', [pixels, writer.floats([255], [])]), channels, height, width };
    },
  },
  resize: {
    usage: 'WIDTHxHEIGHT',
    help: 'the image in another size, linear between pixels and without aliasing',
    write: (text, { writer, image }) => {
      if (image === undefined) throw fault('resize', 'there is no image to resize: put --image in front');
      const [, across, down] = /^(\d{1,4})x(\d{1,4})$/.exec(text) ?? [];
      const [width, height] = [Number(across), Number(down)];
      if (!(width >= 1 && width <= limits.side && height >= 1 && height <= limits.side)) {
        throw fault('resize', `${text}: give WIDTHxHEIGHT, such as 32x32`);
      }
      const attributes = { mode: 'linear', coordinate_transformation_mode: 'half_pixel', antialias: 1, axes: [2, 3] };
      const value = writer.emit('Resize', [image.value, '', '', writer.integers([height, width])], attributes, {
        since: 18,
      });
      return { ...image, value, height, width };
    },
  },
};

function normalisedImage(text: string, writer: FrontWriter, image: StepSite['image']): Written {
  if (image === undefined) throw fault('normalise', `${text}: give COLUMN=MEAN,DEVIATION, or put --image in front`);
  const [means = [], deviations = [], ...more] = text
    .split(',')
    .map((part) => numbersIn(part.replaceAll(':', ','), 'normalise'));
  const fits = [means, deviations].every(({ length }) => length === image.channels || length === 1);
  if (more.length > 0 || !fits || !deviations.every((deviation) => deviation > 0)) {
    throw fault(
      'normalise',
      `${text}: give a mean and a deviation for each of the ${image.channels} channels, such as 0.5:0.4:0.4,0.2:0.2:0.2`,
    );
  }
  const column = (values: readonly number[]): string => writer.floats(values, [values.length, 1, 1]);
  const centred = writer.emit('Sub', [image.value, column(means)]);
  return { ...image, value: writer.emit('Div', [centred, column(deviations)]) };
}

const features = (value: string, width: number): Written => ({ kind: 'features', value, width });

/** Places [batch, 1] as [batch, depth] of zeros and ones; a place outside is all zeros. */
function oneHot(writer: FrontWriter, place: string, depth: number): Written {
  const marks = writer.emit('OneHot', [place, writer.integers([depth], []), writer.floats([0, 1])], { axis: -1 });
  return features(writer.emit('Squeeze', [marks, writer.integers([1])]), depth);
}

/** Each text as its place in a list, from `first` on. */
function coded(
  writer: FrontWriter,
  texts: string,
  list: readonly string[],
  { other, ids = list.map((_, index) => index) }: { other: number; ids?: readonly number[] },
): string {
  const attributes = { keys_strings: { strings: list }, values_int64s: ids, default_int64: other };
  return writer.emit('LabelEncoder', [texts], attributes, { domain: 'ai.onnx.ml' });
}

/** Numbers of words, cut or filled up to one length: [batch, length]. Words are what white space divides. */
function tokens(writer: FrontWriter, column: string, lines: readonly string[], length: number): string {
  const { words, ids, pad, unknown } = idsOf(lines);
  // What fills up a shorter text is a text without a letter.
  const texts = writer.input(column, 'string', [1]);
  const split = writer.emit('StringSplit', [texts], {}, { since: 20, more: [writer.fresh('count')] });
  const row = writer.emit('Squeeze', [split, writer.integers([1])]);
  const found = coded(writer, row, [...words, ''], { other: unknown, ids: [...ids, pad] });
  const batch = writer.emit('Shape', [found], { start: 0, end: 1 });
  const room = writer.emit('Concat', [batch, writer.integers([length])], { axis: 0 });
  const filling = writer.emit('Expand', [writer.integers([pad], [1, 1]), room]);
  const long = writer.emit('Concat', [found, filling], { axis: 1 });
  return writer.emit('Slice', [long, writer.integers([0]), writer.integers([length]), writer.integers([1])]);
}

/** Words and their numbers: the line where it stands, or from 2 on where the file does not say what fills up and what is unknown. */
function idsOf(lines: readonly string[]): {
  words: readonly string[];
  ids: readonly number[];
  pad: number;
  unknown: number;
} {
  const words = lines.filter((line) => line !== '');
  if (words.length === 0 || words.length > limits.words || new Set(words).size !== words.length) {
    throw fault('tokens', `the file of words must have from 1 to ${limits.words} lines, each of another word`);
  }
  const [pad, unknown] = ['[PAD]', '[UNK]'].map((word) => words.indexOf(word));
  const isWhole = pad! >= 0 && unknown! >= 0;
  return {
    words,
    ids: words.map((_, index) => (isWhole ? index : index + 2)),
    pad: isWhole ? pad! : 0,
    unknown: isWhole ? unknown! : 1,
  };
}

/** `review=words.txt,64`. */
function lengthened(text: string): { column: string; rest: string; length: number } {
  const [column, given] = columnAnd(text, 'tokens');
  const at = given.lastIndexOf(',');
  if (at < 1) throw fault('tokens', `${text}: give COLUMN=FILE,LENGTH, such as review=words.txt,64`);
  return { column, rest: given.slice(0, at), length: wholeIn(given.slice(at + 1), 'tokens', limits.length) };
}

function columnAnd(text: string, step: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
  throw fault(step, `${text}: give ${preprocessSteps[step]?.usage ?? 'COLUMN=...'}`);
}

function numbersIn(text: string, step: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part);
    if (part.trim() !== '' && Number.isFinite(value)) return value;
    throw fault(step, `"${part}" is not a number`);
  });
}

function wholeIn(text: string, step: string, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= max) return value;
  throw fault(step, `"${text}" is not a whole number from 1 to ${max}`);
}

const fault = (step: string, problem: string): ConfigError => new ConfigError(`--${step} ${problem}`, step);
