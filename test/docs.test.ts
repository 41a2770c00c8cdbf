import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { strategies } from '@commonweight/core';
import { expect, test } from 'vitest';
import { gradients } from '../core/src/autodiff/gradients.ts';

const docs = (name: string): string => readFileSync(join(import.meta.dirname, '../docs', name), 'utf8');

test('docs/training.md lists the operators of the gradient table', () => {
  const [, list = ''] = /\*\*Operators\*\*[^:]*:\n([^.]*)\./.exec(docs('training.md')) ?? [];
  expect([...list.matchAll(/`(\w+)`/g)].map(([, name]) => name)).toEqual(Object.keys(gradients).sort());
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
