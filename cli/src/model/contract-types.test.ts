import { spawnSync } from 'node:child_process';
import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { contractTypes } from './contract-types.ts';

const root = join(import.meta.dirname, '../../..');
const DIGITS = {
  model: 'digit-images',
  version: 3,
  inputs: [{ name: 'input', dtype: 'float', dims: [-1, 784] }],
  outputs: [{ name: 'logits', dtype: 'float', dims: [-1, 10] }],
};

test('the declaration names what goes in and what comes out', () => {
  expect(contractTypes(DIGITS))
    .toBe(`// The contract of 'digit-images', version 3: made by \`commonweight model types\`, not by hand.
import type { ImageInput, Nested, Pixels } from '@commonweight/client-sdk';

export interface DigitImages {
  inputs: {
    /** float[batch, 784] */
    "input": Float32Array | { data: Float32Array; dims: readonly [number, 784] } | Nested | Pixels | ImageInput | readonly (Pixels | ImageInput)[];
  };
  outputs: {
    /** float[batch, 10] */
    "logits": { data: Float32Array; dims: readonly [number, 10] };
  };
}
`);
});

test('a shape that the number of values does not tell has to be given', () => {
  const contract = { ...DIGITS, model: '2nn', inputs: [{ name: 'x', dtype: 'int64', dims: [-1, -1] }] };
  const text = contractTypes(contract);
  expect(text).toContain('export interface M2nn {');
  expect(text).toContain('"x": { data: BigInt64Array; dims: readonly [number, number] } | Nested;');
});

const folder = mkdtempSync(join(tmpdir(), 'cw-types-'));

beforeAll(() => {
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'digits.d.ts'), contractTypes(DIGITS));
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2024',
    lib: ['es2024'],
    types: ['node'],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    allowImportingTsExtensions: true,
    customConditions: ['@commonweight/source'],
  };
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['app.ts'] }));
});

/** What the compiler says of an app. */
function errorsOf(app: string): string[] {
  const head = `import { connect } from '@commonweight/client-sdk';
import type { DigitImages } from './digits.d.ts';
const client = await connect('grpc://127.0.0.1:1');
const model = await client.model<DigitImages>('digit-images');\n`;
  writeFileSync(join(folder, 'app.ts'), head + app);
  const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line.includes('error TS'));
}

test('an app is compiled against it: right names pass', () => {
  expect(
    errorsOf(`const { outputs } = await model.predict({ input: new Float32Array(784) });
export const scores: Float32Array = outputs.logits.data;
export const classes: 10 = outputs.logits.dims[1];\n`),
  ).toEqual([]);
});

test.each([
  ['an input of another name', 'await model.predict({ image: new Float32Array(784) });', /'image' does not exist/],
  ['an input of another type', 'await model.predict({ input: new Int32Array(784) });', /Int32Array/],
  [
    'an output that is not there',
    '(await model.predict({ input: new Float32Array(784) })).outputs.scores;',
    /'scores' does not exist/,
  ],
])('an app is compiled against it: %s is an error', (_, app, error) => {
  expect(errorsOf(`${app}\n`).join('\n')).toMatch(error);
});
