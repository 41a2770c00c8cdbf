import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { contractOf } from '../onnx/contract.ts';
import { writeModel } from '../onnx/file.ts';
import { buildPreprocess } from './build-front.ts';
import type { PreprocessStep } from './build-front.ts';

const words = ['[PAD]', '[UNK]', 'good', 'film'];

/** Runs a graph of these steps, given as `step text`; `words` stand in every file. */
async function run(
  steps: readonly string[] | Readonly<Record<string, readonly string[]>>,
  feeds: Record<string, (number | string)[] | ort.Tensor>,
): Promise<Record<string, { dims: readonly number[]; data: number[] }>> {
  const outputs = Object.entries(
    Array.isArray(steps) ? { input: steps as string[] } : (steps as Record<string, string[]>),
  );
  const front = buildPreprocess(outputs.map(([name, list]) => ({ name, steps: list.map(stepOf) })));
  const session = await ort.InferenceSession.create(writeModel(front), { logSeverityLevel: 3 });
  const tensors = Object.entries(feeds).map(([name, values]) => {
    if (!Array.isArray(values)) return [name, values] as const;
    const dims = [values.length, 1];
    const isText = typeof values[0] === 'string';
    return [
      name,
      isText
        ? new ort.Tensor('string', values as string[], dims)
        : new ort.Tensor('float32', Float32Array.from(values as number[]), dims),
    ] as const;
  });
  const results = await session.run(Object.fromEntries(tensors));
  await session.release();
  return Object.fromEntries(
    Object.entries(results).map(([name, { dims, data }]) => [
      name,
      { dims, data: Array.from(data as Float32Array, Number) },
    ]),
  );
}

function stepOf(typed: string): PreprocessStep {
  const at = typed.indexOf(' ');
  return { step: typed.slice(0, at), text: typed.slice(at + 1), lines: words };
}

test('columns stand side by side in the order of the steps', async () => {
  const steps = ['normalise age=40,10', 'number income', 'one-hot city=Rome,Oslo', 'bucket age=30,45'];
  const { input } = await run(steps, { age: [50, 30, 29], income: [3, -1, 0], city: ['Oslo', 'Rome', 'Bern'] });
  expect(input).toEqual({
    dims: [3, 7],
    data: [...[1, 3, 0, 1, 0, 0, 1], ...[-1, -1, 1, 0, 0, 1, 0], ...[expect.closeTo(-1.1, 6), 0, 0, 0, 1, 0, 0]],
  });
});

test('a hash puts the same text into the same bucket, and others about evenly', async () => {
  const texts = Array.from({ length: 800 }, (_, index) => `user ${index} zwölf 漢`);
  const [first, again] = [
    await run(['hash id=8'], { id: texts }),
    await run(['hash id=8'], { id: [texts[5]!, texts[5]!] }),
  ];
  const rows = texts.map((_, row) => first['input']!.data.slice(row * 8, row * 8 + 8));
  for (const row of rows) expect(row.filter((value) => value === 1)).toHaveLength(1);
  expect(again['input']!.data).toEqual([...rows[5]!, ...rows[5]!]);
  const counts = rows[0]!.map((_, bucket) => rows.filter((row) => row[bucket] === 1).length);
  for (const count of counts) expect(Math.abs(count - 100)).toBeLessThan(40);
  // The hash is that of every device: MurmurHash3 of 32 bits, seed 0.
  for (const [index, row] of rows.entries()) expect(row.indexOf(1)).toBe(murmur3(texts[index]!) % 8);
});

/** Austin Appleby's MurmurHash3_x86_32 with seed 0, of the text's UTF-8. */
function murmur3(text: string): number {
  const bytes = new TextEncoder().encode(text);
  const view = new DataView(bytes.buffer);
  const turned = (value: number, by: number): number => (value << by) | (value >>> (32 - by));
  const mixed = (block: number): number => Math.imul(turned(Math.imul(block, 0xcc9e2d51), 15), 0x1b873593);
  const whole = bytes.length - (bytes.length % 4);
  let hash = 0;
  for (let at = 0; at < whole; at += 4)
    hash = (Math.imul(turned(hash ^ mixed(view.getUint32(at, true)), 13), 5) + 0xe6546b64) | 0;
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8) | bytes[at]!;
  hash ^= mixed(rest) ^ bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

test('words become numbers, filled up and cut, with a mask beside them', async () => {
  const texts = { review: ['good  film', 'film', '', 'a very good film this is'] };
  const { tokens, mask } = await run({ tokens: ['tokens review=f,3'], mask: ['mask review=f,3'] }, texts);
  expect(tokens).toEqual({ dims: [4, 3], data: [2, 3, 0, 3, 0, 0, 0, 0, 0, 1, 1, 2] });
  expect(mask).toEqual({ dims: [4, 3], data: [1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1] });
  // A batch of which no text has a word.
  expect((await run(['tokens review=f,2'], { review: ['', ''] }))['input']).toEqual({
    dims: [2, 2],
    data: [0, 0, 0, 0],
  });
});

test('a list of words that names neither filling nor the unknown has both before it', async () => {
  const front = buildPreprocess([
    { name: 'x', steps: [{ step: 'tokens', text: 't=f,3', lines: ['good', 'film', ''] }] },
  ]);
  const session = await ort.InferenceSession.create(writeModel(front));
  const { x } = await session.run({ t: new ort.Tensor('string', ['film bad'], [1, 1]) });
  expect([...(x!.data as BigInt64Array)]).toEqual([3n, 1n, 0n]);
  await session.release();
});

test('an image of any size is resized, and normalised channel by channel', async () => {
  const pixels = Uint8Array.from({ length: 2 * 3 * 4 * 4 }, (_, at) => (Math.floor(at / 16) % 3) * 51);
  const image = new ort.Tensor('uint8', pixels, [2, 3, 4, 4]);
  const steps = ['image ?x?x3', 'resize 2x3', 'normalise 0:0.1:0.2,1:0.5:0.2'];
  const { input } = await run(steps, { image });
  expect(input!.dims).toEqual([2, 3, 3, 2]);
  input!.data.forEach((value, at) => expect(value).toBeCloseTo([0, 0.2, 1][Math.floor(at / 6) % 3]!, 5));
});

test('the contract says what goes in', () => {
  const front = buildPreprocess([{ name: 'x', steps: ['one-hot city=a,b', 'number age'].map(stepOf) }]);
  expect(contractOf(front)).toEqual({
    inputs: [
      { name: 'city', dtype: 'string', dims: [-1, 1] },
      { name: 'age', dtype: 'float', dims: [-1, 1] },
    ],
    outputs: [{ name: 'x', dtype: 'float', dims: [-1, 3] }],
  });
});

test.each([
  [[], /there is nothing to do: give steps/],
  [['lower city'], /step lower is not known; there are number, normalise/],
  [['one-hot city'], /--one-hot city: give COLUMN=A,B,C/],
  [['one-hot city=a,a'], /give up to 100000 texts, each once/],
  [['normalise age=40'], /give COLUMN=MEAN,DEVIATION/],
  [['normalise age=40,0'], /give COLUMN=MEAN,DEVIATION/],
  [['normalise age=x,1'], /"x" is not a number/],
  [['normalise 1,2'], /give COLUMN=MEAN,DEVIATION, or put --image in front/],
  [['bucket age=3,2'], /let bounds grow/],
  [['hash id=0'], /"0" is not a whole number from 1 to 1000000/],
  [['tokens review=words.txt'], /give COLUMN=FILE,LENGTH/],
  [['image 28x28'], /give WIDTHxHEIGHTxCHANNELS/],
  [['resize 3x3'], /there is no image to resize/],
  [['image 8x8x3', 'normalise 1:2,1'], /a mean and a deviation for each of the 3 channels/],
  [['image 8x8x3', 'number age'], /made of image and of features, which do not go together/],
  [['number city', 'hash city=3'], /read as float by one step and as string by another/],
])('%j is refused by what is wrong', (steps, message) => {
  const build = () => buildPreprocess(steps.length === 0 ? [] : [{ name: 'x', steps: steps.map(stepOf) }]);
  expect(build).toThrow(ConfigError);
  expect(build).toThrow(message);
});
