import { appendFile, mkdtemp, readFile, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FeedbackFolder, feedbackFiles } from './feedback-folder.ts';
import { exampleIn, lineOf, type LabelledExample } from './feedback-line.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-feedback-'));

const example = (label: number, length = 4): LabelledExample => ({
  model: 'm',
  version: 3,
  guess: 1,
  label,
  atMs: 1_800_000_000_000,
  inputs: { input: { type: 'float32', data: Float32Array.from({ length }, (_, i) => i / 7), dims: [1, length] } },
});

async function linesIn(path: string): Promise<LabelledExample[]> {
  const files = await feedbackFiles(path);
  const texts = await Promise.all(files.map((file) => readFile(file.path, 'utf8')));
  return texts.flatMap((text) => text.split('\n').slice(0, -1).map(exampleIn));
}

test('any example is read back as it was written, and any flipped bit of its line is seen', () => {
  fc.assert(
    fc.property(
      fc.record({
        label: fc.nat(1000),
        guess: fc.option(fc.nat(1000), { nil: undefined }),
        version: fc.nat(1e6),
        atMs: fc.maxSafeInteger(),
      }),
      fc.float32Array({ minLength: 1, maxLength: 20, noNaN: true }),
      fc.bigInt64Array({ minLength: 1, maxLength: 5 }),
      fc.nat(),
      (said, floats, wholes, at) => {
        const written: LabelledExample = {
          model: 'm',
          ...said,
          inputs: {
            'a "b"': { type: 'float32', data: floats, dims: [1, floats.length] },
            c: { type: 'int64', data: wholes, dims: [wholes.length] },
          },
        };
        const line = lineOf(written);
        expect(exampleIn(line)).toEqual(written);
        const bytes = Buffer.from(line);
        bytes[at % bytes.length]! ^= 1;
        expect(() => exampleIn(bytes.toString('utf8'))).toThrow();
      },
    ),
  );
});

test('what was said to be kept is in the folder, in the order in which it came', async () => {
  const path = join(await folder(), 'deep', 'down');
  const store = new FeedbackFolder(path);
  await Promise.all(Array.from({ length: 100 }, (_, i) => store.add([example(i)])));
  expect((await linesIn(path)).map(({ label }) => label)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  await store.close();
  await expect(store.add([example(1)])).rejects.toThrow('the client is closed');
});

test('each process has files of its own, and half a line of one that was killed harms none', async () => {
  const path = await folder();
  const first = new FeedbackFolder(path);
  await first.add([example(1)]);
  await first.close();
  const [file] = await feedbackFiles(path);
  await appendFile(file!.path, lineOf(example(2)));
  await truncate(file!.path, file!.bytes + 10);
  const [second, third] = [new FeedbackFolder(path), new FeedbackFolder(path)];
  await Promise.all([second.add([example(3)]), third.add([example(4)])]);
  expect(await feedbackFiles(path)).toHaveLength(3);
  const labels = (await linesIn(path)).map(({ label }) => label);
  expect(labels.toSorted((a, b) => a - b)).toEqual([1, 3, 4]);
  await Promise.all([second.close(), third.close()]);
});

test('the oldest files go where there are too many bytes', async () => {
  const path = await folder();
  const store = new FeedbackFolder(path, 12 * 1024 * 1024);
  // About 1.4 MB each, one after the other has been kept.
  for (let label = 0; label < 20; label += 1) await store.add([example(label, 256 * 1024)]);
  const files = await feedbackFiles(path);
  expect(files.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(12 * 1024 * 1024 + 2 * 1024 * 1024);
  const labels = (await linesIn(path)).map(({ label }) => label);
  expect([labels.at(-1), labels.length]).toEqual([19, labels[0] === undefined ? 0 : 20 - labels[0]]);
  await store.close();
});

test('a folder that cannot be written is named, and works again once it can', async () => {
  const path = join(await folder(), 'taken');
  await writeFile(path, 'a file');
  const store = new FeedbackFolder(path);
  await expect(store.add([example(1)])).rejects.toThrow(`feedback could not be written to ${path}`);
  await store.close();
});
