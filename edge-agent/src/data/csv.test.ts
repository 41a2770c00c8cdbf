import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseCsv, readCsv } from './csv.ts';
import { DataError } from './dataset.ts';

const parse = (text: string, label = 'label'): ReturnType<typeof parseCsv> => parseCsv(text, 'f.csv', label);

test('numbers and a label column, wherever it stands', () => {
  const expected = {
    inputs: Float32Array.of(1.5, -2, 3e-2, 4),
    inputShape: [2],
    labels: Int32Array.of(1, 0),
    classes: 2,
    examples: 2,
  };
  expect(parse('a,label,b\n1.5,1,-2\n3e-2,0,4\n')).toEqual(expected);
  expect(parse('a,b,class\r\n1.5,-2,1\r\n\r\n3e-2,4,0', 'class')).toEqual(expected);
});

test('quoted names and cells, spaces, and the mark that spreadsheets put in front', () => {
  const expected = parse('a,label\n1,0\n2,1');
  expect(parse('"a","label"\n"1","0"\n"2","1"')).toEqual(expected);
  expect(parse(' a , label \n 1 , 0 \n 2 , 1 ')).toEqual(expected);
  expect(parse('\uFEFFlabel,a\n0,1\n1,2')).toEqual(expected);
  expect(parse('"a, in cm","label"\n1,0\n2,1')).toEqual(expected);
  expect(parse('"a ""x""","label"\n1,0\n2,1')).toEqual(expected);
});

test('any table of numbers is read back as it was written', () => {
  const table = fc.integer({ min: 1, max: 5 }).chain((width) =>
    fc.array(
      fc.tuple(
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: width, maxLength: width }),
        fc.nat(9),
      ),
      {
        minLength: 1,
        maxLength: 8,
      },
    ),
  );
  fc.assert(
    fc.property(table, (rows) => {
      const header = [...(rows[0]?.[0] ?? []).map((_, i) => `c${i}`), 'label'].join(',');
      const text = [header, ...rows.map(([cells, label]) => [...cells, label].join(','))].join('\n');
      const { inputs, labels, examples } = parse(text);
      // A decimal text knows no negative zero.
      expect([...inputs]).toEqual(rows.flatMap(([cells]) => cells.map((cell) => cell + 0)));
      expect([...labels]).toEqual(rows.map(([, label]) => label));
      expect(examples).toBe(rows.length);
    }),
  );
});

test('a missing label column names those that are there, and the mend', () => {
  expect(() => parse('a,b\n1,2')).toThrow('f.csv has no column "label" but a, b: name the label\'s with &label=COLUMN');
});

test('a cell that is no number is named by line and column, also behind empty lines', () => {
  expect(() => parse('a,label\n1,0\nred,1')).toThrow('f.csv line 3, column "a": "red" is not a number');
  expect(() => parse('a,label\n1,0\n,1')).toThrow('f.csv line 3, column "a": "" is not a number');
  expect(() => parse('a,label\n1,0\n\n\nred,1')).toThrow('f.csv line 5, column "a": "red" is not a number');
  expect(() => parse('a,label\nInfinity,0')).toThrow('f.csv line 2');
  expect(() => parse('a,label\n1e99,0')).toThrow('f.csv line 2, column "a": "1e99" is not a number');
});

test('a row of another width, a label that is no class and an empty table are refused', () => {
  expect(() => parse('a,label\n1,0\n1,2,3')).toThrow('f.csv line 3 has 3 cells, the header 2');
  for (const label of ['-1', '0.5', '99999999999']) {
    expect(() => parse(`a,label\n1,${label}`)).toThrow(`f.csv line 2: the label ${label} is not a whole number from 0`);
  }
  expect(() => parse('a,label\n')).toThrow('f.csv has a header and no rows');
  expect(() => parse('')).toThrow(DataError);
  expect(() => parse('label\n1')).toThrow('f.csv has no column beside the label');
  expect(() => parse('a,"label\n1,0')).toThrow('f.csv line 1: a quote is not closed');
  expect(() => parse('a,label\n1"2,0')).toThrow('f.csv line 2: a quote is not closed or stands within a cell');
});

test('a file that is not there is named', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cw-csv-'));
  await expect(readCsv(join(folder, 'no.csv'), 'label')).rejects.toThrow(`cannot read ${join(folder, 'no.csv')}`);
  await writeFile(join(folder, 'yes.csv'), 'a,label\n1,0\n');
  expect((await readCsv(join(folder, 'yes.csv'), 'label')).examples).toBe(1);
});
