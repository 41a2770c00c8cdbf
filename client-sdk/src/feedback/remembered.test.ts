import { expect, test } from 'vitest';
import type { TypedTensor } from '../runtime/tensor.ts';
import { rememberedOf, RememberedPredictions, rowOf, type RememberOptions } from './remembered.ts';

const feeds = (rows: number, size = 2): Record<string, TypedTensor> => ({
  input: { type: 'float32', data: Float32Array.from({ length: rows * size }, (_, i) => i), dims: [rows, size] },
});
const logits = (rows: number, ...data: number[]) => ({
  logits: { data: Float32Array.from(data), dims: [rows, data.length / rows] },
});

function remembering(options: RememberOptions = {}) {
  let nowMs = 0;
  const predictions = new RememberedPredictions(options, () => nowMs);
  const one = (rows = 1): string => {
    const number = predictions.next();
    const outputs = logits(rows, ...Array.from({ length: rows * 3 }, (_, i) => i % 3));
    predictions.remember(number, rememberedOf(7, feeds(rows), outputs, true));
    return predictions.idOf(number);
  };
  return { predictions, one, pass: (ms: number) => void (nowMs += ms) };
}

test('a prediction is found by its id, once, and with it what the model made of each row', () => {
  const { predictions, one } = remembering();
  const [first, second] = [one(), one(2)];
  const remembered = predictions.take(second);
  expect(remembered).toMatchObject({ version: 7, rows: 2, guesses: [2, 2], classes: 3 });
  expect(rowOf(remembered, 1)).toEqual({ input: { type: 'float32', data: Float32Array.of(2, 3), dims: [1, 2] } });
  expect(() => predictions.take(second)).toThrow(`there was feedback on prediction ${second} already`);
  predictions.putBack(second, remembered);
  expect(predictions.take(second)).toEqual(remembered);
  expect(predictions.take(first).version).toBe(7);
});

test('what is too many, too large or too long ago is forgotten, the oldest first, and the error says what is remembered', () => {
  const few = remembering({ predictionsMax: 3 });
  const ids = [1, 2, 3, 4].map(() => few.one());
  expect(() => few.predictions.take(ids[0]!)).toThrow(
    /is not remembered any more: the last 3 are, with up to 16777216 bytes of inputs, for 60 minutes/,
  );
  expect(few.predictions.take(ids[1]!).version).toBe(7);
  // 8 bytes a row.
  const small = remembering({ inputBytesMax: 20 });
  const [a, b, c] = [small.one(), small.one(), small.one()];
  expect(() => small.predictions.take(a)).toThrow(/not remembered any more/);
  expect([small.predictions.take(b).rows, small.predictions.take(c).rows]).toEqual([1, 1]);
  const short = remembering({ expiresMs: 1000 });
  const old = short.one();
  short.pass(1001);
  expect(() => short.predictions.take(old)).toThrow(/not remembered any more/);
});

test('an id that nobody gave out is told from one that is too old', () => {
  const { predictions, one } = remembering();
  const id = one();
  for (const unknown of ['', 'x', id.replace(/\d+$/, '2'), id.replace(/\d+$/, '0'), `00000000-1`, id + '0'])
    expect(() => predictions.take(unknown), unknown).toThrow(/is the id of no prediction that this model made/);
  expect(predictions.take(id).version).toBe(7);
});

test('outputs that are no classes have no guesses', () => {
  const number = { value: { data: Float32Array.of(1, 2), dims: [2, 1] } };
  expect(rememberedOf(1, feeds(2), number, true)).toMatchObject({ rows: 2, guesses: undefined, classes: undefined });
  // A model without a batch has one row, whatever its first dimension.
  expect(rememberedOf(1, feeds(4), logits(1, 1, 2), false)).toMatchObject({ rows: 1, guesses: [1] });
});
