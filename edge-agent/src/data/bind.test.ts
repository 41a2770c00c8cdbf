import { float16Value } from '@commonweight/core';
import { expect, test } from 'vitest';
import { bindInputs, bindTarget, LABEL, type InputShape } from './bind.ts';
import { parseCsv } from './csv.ts';
import { DataError, subset, type Dataset } from './dataset.ts';
import { parseJsonl } from './jsonl.ts';

const table = (text: string, more: Partial<Dataset> = {}): Dataset => ({
  ...parseCsv(text, 'f.csv'),
  label: ['label'],
  ...more,
});
const objects = (rows: object[], more: Partial<Dataset> = {}): Dataset => ({
  ...parseJsonl(rows.map((row) => JSON.stringify(row)).join('\n'), 'f.jsonl'),
  label: ['label'],
  ...more,
});
const input = (name: string, dtype: string, ...shape: number[]): InputShape => ({ name, dtype, shape });
const bound = (data: Dataset, ...inputs: InputShape[]): Record<string, unknown> =>
  Object.fromEntries(bindInputs(data, inputs).map(({ name, values }) => [name, values]));

const people = table('age,income,city,label\n41,1.5,Rome,1\n29,0.5,Oslo,0');

test('one input gets all columns but the label, in their order', () => {
  expect(bound(table('a,label,b\n1,0,2\n3,1,4'), input('x', 'float', 2))).toEqual({ x: Float32Array.of(1, 2, 3, 4) });
  expect(bound(table('a,label,b\n1,0,2\n3,1,4'), input('x', 'int32', 1, 2))).toEqual({ x: Int32Array.of(1, 2, 3, 4) });
});

test('inputs get the columns of their names, and a last one what is left', () => {
  const city = input('city', 'string');
  expect(bound(people, city, input('age', 'uint8', 1))).toEqual({ city: ['Rome', 'Oslo'], age: Uint8Array.of(41, 29) });
  expect(bound(people, city, input('rest', 'float', 2))['rest']).toEqual(Float32Array.of(41, 1.5, 29, 0.5));
});

test('columns are named for an input, with * for any letters, or a number fills it', () => {
  const mapping = { tabular: ['income', 'age'], extra: ['0.5'], all: ['*e'] };
  const inputs = [input('tabular', 'double', 2), input('extra', 'float', 2), input('all', 'float', 2)];
  expect(bound({ ...people, mapping }, ...inputs)).toEqual({
    tabular: Float64Array.of(1.5, 41, 0.5, 29),
    extra: Float32Array.of(0.5, 0.5, 0.5, 0.5),
    all: Float32Array.of(41, 1.5, 29, 0.5),
  });
});

test.each([
  ['float', '0.1', Float32Array.of(0.1)],
  ['double', '0.1', Float64Array.of(0.1)],
  ['int8', '-128', Int8Array.of(-128)],
  ['int16', '-32768', Int16Array.of(-32768)],
  ['int32', '-2147483648', Int32Array.of(-2147483648)],
  ['int64', '9007199254740993', BigInt64Array.of(9007199254740993n)],
  ['uint8', '255', Uint8Array.of(255)],
  ['uint16', '65535', Uint16Array.of(65535)],
  ['uint32', '4294967295', Uint32Array.of(4294967295)],
  ['uint64', '18446744073709551615', BigUint64Array.of(18446744073709551615n)],
  ['bool', 'true', Uint8Array.of(1)],
  ['bool', '0', Uint8Array.of(0)],
])('%s holds %s exactly', (dtype, cell, expected) => {
  expect(bound(table(`x,label\n${cell},0`), input('x', dtype))).toEqual({ x: expected });
});

test('halves are rounded to the nearest', () => {
  const { x } = bound(table('x,label\n0.1,0\n-3,0'), input('x', 'float16')) as { x: Uint16Array };
  expect([...x].map(float16Value)).toEqual([0.0999755859375, -3]);
});

test('what a type does not hold is named by line, column and input', () => {
  const of = (cell: string, dtype: string) => () => bound(table(`x,label\n1,0\n\n${cell},0`), input('x', dtype));
  expect(of('0.5', 'int64')).toThrow(`f.csv line 4, column "x": 0.5 is no int64, which input 'x' (int64[]) takes`);
  expect(of('300', 'uint8')).toThrow('300 is no uint8');
  expect(of('-1', 'uint64')).toThrow('-1 is no uint64');
  expect(of('1e39', 'float')).toThrow('1e+39 is no float');
  expect(of('1e6', 'float16')).toThrow('1000000 is no float16');
  expect(of('red', 'float')).toThrow('column "x": "red" is no float');
  expect(() => bound(table('x,y,label\n1,2,0\n,3,0'), input('x', 'float'))).toThrow(
    'line 3, column "x": "" is no float',
  );
  expect(of('2', 'bool')).toThrow('2 is no bool');
  expect(of('2', 'string')).toThrow(
    "was read as numbers, and input 'x' (string[]) takes texts: keep them as they are written with &text=x",
  );
  expect(of('2', 'bfloat16')).toThrow("input 'x' is of type bfloat16, which no data can be given for");
});

test('what fits no input is named with what there is', () => {
  expect(() => bound(people, input('tabular', 'float', 3), input('text', 'string'))).toThrow(
    "input 'tabular' (float[3]) has no column: f.csv has age, income, city, label; name those it is made of with &input.tabular=COLUMN,COLUMN, or a number that fills it",
  );
  expect(() => bound(table('a,label,b\n1,0,2'), input('x', 'float', 3))).toThrow(
    "an example has 2 values (a, b) and input 'x' (float[3]) takes 3: use data that fits the model",
  );
  expect(() => bound({ ...people, mapping: { x: ['hight'] } }, input('x', 'float', 1))).toThrow(
    '&input.x: f.csv has no column "hight": it has age, income, city, label',
  );
  expect(() => bound({ ...people, mapping: { y: ['age'] } }, input('x', 'float', 1))).toThrow(
    "&input.y: the model has no input 'y' but 'x'",
  );
});

test('lists are filled up, and a mask says where', () => {
  const data = objects([
    { tokens: [5, 6, 7], label: 0 },
    { tokens: [8], label: 1 },
  ]);
  expect(bound(data, input('tokens', 'int64', 4), input('attention_mask', 'int64', 4))).toEqual({
    tokens: BigInt64Array.of(5n, 6n, 7n, 0n, 8n, 0n, 0n, 0n),
    attention_mask: BigInt64Array.of(1n, 1n, 1n, 0n, 1n, 0n, 0n, 0n),
  });
  // An open size is as long as the longest list of those at hand.
  const [tokens] = bindInputs(subset(data, [1]), [input('tokens', 'int32', -1)]);
  expect(tokens).toMatchObject({ shape: [1], values: Int32Array.of(8) });
});

test('tokens that are all as many are lists still, and numbers are not', () => {
  const data = objects([{ x: [1, 2], label: 0 }]);
  expect(bound(data, input('x', 'int64', 3), input('mask', 'bool', 3))).toEqual({
    x: BigInt64Array.of(1n, 2n, 0n),
    mask: Uint8Array.of(1, 1, 0),
  });
  expect(() => bound(data, input('x', 'float', 3))).toThrow('an example has 2 values');
});

test('a list that is too long is cut where that is asked for', () => {
  const data = objects([
    { x: [1], label: 0 },
    { x: [1, 2, 3], label: 0 },
  ]);
  expect(() => bound(data, input('x', 'int64', 2))).toThrow(
    'f.jsonl line 2: "x" has 3 items and input \'x\' (int64[2]) takes 2: cut longer ones with &longer=cut',
  );
  expect(bound({ ...data, cuts: true }, input('x', 'int64', 2))).toEqual({ x: BigInt64Array.of(1n, 0n, 1n, 2n) });
});

test('pixels are from 0 to 255 where whole numbers are taken, and from 0 to 1 as floats', () => {
  const image = { name: 'image', values: Uint8Array.of(0, 51, 255, 102), shape: [2], scale: 1 / 255 };
  const data: Dataset = { source: 'f', examples: 2, columns: [image], label: [] };
  expect(bound(data, input('image', 'uint8', 2))).toEqual({ image: Uint8Array.of(0, 51, 255, 102) });
  expect(bound(data, input('image', 'float', 2, 1))).toEqual({ image: Float32Array.of(0, 0.2, 1, 0.4) });
});

test('a target is a class, one number a class, numbers, or a class a place', () => {
  const target = (data: Dataset, shape: InputShape, filling?: number) => bindTarget(data, shape, filling).values;
  expect(target(people, input(LABEL, 'int64'))).toEqual(BigInt64Array.of(1n, 0n));
  expect(target(people, input(LABEL, 'float', 3))).toEqual(Float32Array.of(0, 1, 0, 1, 0, 0));
  expect(target(people, input(LABEL, 'float', 1))).toEqual(Float32Array.of(1, 0));
  expect(target({ ...people, label: ['age', 'income'] }, input(LABEL, 'float', 2))).toEqual(
    Float32Array.of(41, 1.5, 29, 0.5),
  );
  const named = { ...people, label: ['city'], classes: ['Oslo', 'Rome'] };
  expect(target(named, input(LABEL, 'int64'))).toEqual(BigInt64Array.of(1n, 0n));
  const tagged = objects([
    { x: 1, label: [3, 1] },
    { x: 2, label: [2] },
  ]);
  expect(target(tagged, input(LABEL, 'int64', 3), -100)).toEqual(BigInt64Array.of(3n, 1n, -100n, 2n, -100n, -100n));
  expect(() => target(tagged, input(LABEL, 'int64', 3))).toThrow('set lossOptions.ignoreIndex');
});

test('a label that is no class is named with the mend', () => {
  const target = (data: Dataset) => () => bindTarget(data, input(LABEL, 'int64'));
  expect(target(table('x,label\n1,0.5'))).toThrow('f.csv line 2, column "label": 0.5 is no int64');
  expect(target({ ...people, label: ['city'] })).toThrow(
    'the label "Rome" is not a number: name the classes in their order with &classes=A,B',
  );
  expect(target({ ...people, label: ['city'], classes: ['Rome'] })).toThrow(
    'has the label "Oslo", and the classes are Rome',
  );
  expect(target({ ...people, label: [] })).toThrow('f.csv has no column "label" but age, income, city, label');
  expect(target({ ...people, label: [] })).toThrow(DataError);
});
