import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseCsv, readCsv } from './csv.ts';
import { DataError } from './dataset.ts';

const parse = (text: string, asText: string[] = []): ReturnType<typeof parseCsv> =>
  parseCsv(text, 'f.csv', { text: asText });
const columns = (text: string, asText: string[] = []): Record<string, unknown[]> =>
  Object.fromEntries(parse(text, asText).columns.map(({ name, values }) => [name, [...values]]));

test('a column is of numbers where all of its cells are', () => {
  expect(parse('a,label,b\n1.5,1,-2\n3e-2,0,4\n')).toEqual({
    source: 'f.csv',
    examples: 2,
    lines: Uint32Array.of(2, 3),
    columns: [
      { name: 'a', values: Float64Array.of(1.5, 0.03), shape: [] },
      { name: 'label', values: Float64Array.of(1, 0), shape: [] },
      { name: 'b', values: Float64Array.of(-2, 4), shape: [] },
    ],
  });
});

test('quoted names and cells, spaces, other ends of lines, and the mark that spreadsheets put in front', () => {
  const expected = columns('a,label\n1,0\n2,1');
  expect(columns('"a","label"\n"1","0"\n"2","1"')).toEqual(expected);
  expect(columns(' a , label \n 1 , 0 \n 2 , 1 ')).toEqual(expected);
  expect(columns('\uFEFFa,label\r\n1,0\r\n\r\n2,1')).toEqual(expected);
  expect(columns('"a ""x"", in cm",label\n1,0')).toEqual({ 'a "x", in cm': [1], label: [0] });
});

test('texts may hold commas, quotes and line breaks; lines are counted on', () => {
  const text = 'text,label\n"one, two",0\n"said ""no""\nand left",1\n\nplain,2\n';
  expect(columns(text)).toEqual({ text: ['one, two', 'said "no"\nand left', 'plain'], label: [0, 1, 2] });
  expect([...parse(text).lines!]).toEqual([2, 3, 6]);
});

test('a column that begins with numbers and goes on with words is text from its beginning', () => {
  const rows = Array.from({ length: 250 }, (_, i) => `${i === 201 ? 'N/A' : `0${i}`},${i}`);
  const { a, b } = columns(['a,b', ...rows].join('\n'));
  expect(a!.slice(0, 2)).toEqual(['00', '01']);
  expect([a![201], b![201]]).toEqual(['N/A', 201]);
});

test('numbers stay as they are written where that is asked for, and where a double could not hold them', () => {
  expect(columns('zip,x\n01234,1\n99999,2', ['zip'])).toEqual({ zip: ['01234', '99999'], x: [1, 2] });
  expect(columns('id\n9007199254740993\n1')).toEqual({ id: ['9007199254740993', '1'] });
  expect(() => parse('a\n1', ['b'])).toThrow('f.csv has no column "b", which is to stay text: it has a');
});

test('a cell may be a list of numbers', () => {
  const [tokens] = parse('tokens,label\n"[3, 1, 4]",0\n[],1\n"[1,5]",1\n').columns;
  expect(tokens).toEqual({
    name: 'tokens',
    values: Float64Array.of(3, 1, 4, 1, 5),
    shape: [],
    ends: Uint32Array.of(3, 3, 5),
  });
});

test('any table is read back as it was written', () => {
  const word = fc.string({ minLength: 1 }).map((text) => `x${text.trim()}`);
  const table = fc.integer({ min: 1, max: 5 }).chain((width) =>
    fc.array(
      fc.tuple(
        fc.array(fc.double({ noNaN: true, noDefaultInfinity: true, max: 1e15, min: -1e15 }), {
          minLength: width,
          maxLength: width,
        }),
        word,
      ),
      { minLength: 1, maxLength: 8 },
    ),
  );
  fc.assert(
    fc.property(table, (rows) => {
      const header = [...rows[0]![0].map((_, i) => `c${i}`), 'word'].join(',');
      const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
      const text = [header, ...rows.map(([cells, last]) => [...cells, quoted(last)].join(','))].join('\n');
      const found = columns(text);
      rows[0]![0].forEach((_, i) => {
        // A decimal text knows no negative zero.
        expect(found[`c${i}`]).toEqual(rows.map(([cells]) => cells[i]! + 0));
      });
      expect(found['word']).toEqual(rows.map(([, last]) => last));
    }),
  );
});

test('a row of another width, an empty table and quotes that are not closed are refused', () => {
  expect(() => parse('a,label\n1,0\n1,2,3')).toThrow('f.csv line 3 has 3 cells, the header 2');
  expect(() => parse('a,label\n')).toThrow('f.csv has a header and no rows');
  expect(() => parse('')).toThrow(DataError);
  expect(() => parse('a,a\n1,2')).toThrow('f.csv has two columns "a"');
  expect(() => parse('a,"label\n1,0')).toThrow('f.csv line 1: a quote is not closed');
  expect(() => parse('a,label\n1"2,0')).toThrow('f.csv line 2: a quote is not closed or stands within a cell');
});

test('a file that is not there is named, and so is one that is no text', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cw-csv-'));
  await expect(readCsv(join(folder, 'no.csv'))).rejects.toThrow(`cannot read ${join(folder, 'no.csv')}`);
  await writeFile(join(folder, 'yes.csv'), 'a,label\n1,0\n');
  expect((await readCsv(join(folder, 'yes.csv'))).examples).toBe(1);
  await writeFile(join(folder, 'odd.csv'), Uint8Array.of(0x61, 0x0a, 0xff, 0xfe));
  await expect(readCsv(join(folder, 'odd.csv'))).rejects.toThrow('odd.csv is no UTF-8 text: save it as UTF-8');
});
