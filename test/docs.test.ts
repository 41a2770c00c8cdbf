import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { strategies } from '@commonweight/core';
import { expect, test } from 'vitest';
import { withOperatorTable } from './support/operator-table.ts';
import { STRATEGIES_DOC, withTable } from './support/strategies-table.ts';

const docs = (name: string): string => readFileSync(join(import.meta.dirname, '../docs', name), 'utf8');

test('docs/training.md lists the operators that the code has', () => {
  const text = docs('training.md');
  expect(text, 'run: node scripts/operator-table.mjs').toBe(withOperatorTable(text));
});

test('docs/aggregation.md has a row for each strategy, with its options', () => {
  const text = docs('aggregation.md');
  for (const [name, { options }] of Object.entries(strategies)) {
    const row = text.split('\n').find((line) => line.startsWith(`| \`${name}\``));
    expect(row, name).toBeDefined();
    // What two strategies share may be said once.
    if (/as fed/.test(row ?? '')) continue;
    for (const option of options) expect(option === 'serverLearningRate' ? text : row).toContain(`\`${option}\``);
  }
});

test('docs/strategies.md has the table that the code makes', () => {
  const text = readFileSync(STRATEGIES_DOC, 'utf8');
  expect(withTable(text)).toBe(text);
  for (const name of Object.keys(strategies)) expect(text).toContain(`| \`${name}\` |`);
});

test('docs/sdk.md has a row for each situation that is tested, and no other', () => {
  const tests = readFileSync(join(import.meta.dirname, 'support/situations.ts'), 'utf8');
  const names = [...tests.matchAll(/^  test\('([^']+)'/gm)].map(([, name]) => name);
  const [, table = ''] = /\| situation, and the name of its test \|\n((?:\|.*\n)+)/.exec(docs('sdk.md')) ?? [];
  const rows = [...table.matchAll(/^\|[^|]*\| ([^|]+?) *\|$/gm)]
    .map(([, row]) => row)
    .filter((row) => !row?.startsWith('-'));
  expect(names.length).toBeGreaterThan(0);
  expect(rows.toSorted()).toEqual(names.toSorted());
});
