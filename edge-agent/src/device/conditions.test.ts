import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { Conditions, parseConditions } from './conditions.ts';

const warnings: string[] = [];
const warn = (text: string): void => void warnings.push(text);

test('what the operator says holds, and nothing else', async () => {
  const conditions = new Conditions({ set: { unmetered: 'yes', charging: 'no', cool: 'yes' } }, warn);
  expect(conditions.holding).toEqual([]);
  expect(await conditions.look(false)).toBe(true);
  expect(conditions.holding).toEqual(['cool', 'unmetered']);
  expect(await conditions.look(false)).toBe(false);
});

test('a file is read again and again and wins; where it cannot be read that is told once', async () => {
  const file = join(temporaryFolder('conditions'), 'now.json');
  const conditions = new Conditions({ set: { unmetered: 'yes' }, file }, warn);
  await conditions.look(false);
  await conditions.look(false);
  expect(conditions.holding).toEqual(['unmetered']);
  expect(warnings.splice(0)).toEqual([expect.stringContaining('says nothing of conditions: ENOENT')]);
  writeFileSync(file, '{ "charging": true, "unmetered": false }');
  expect(await conditions.look(false)).toBe(true);
  expect(conditions.holding).toEqual(['charging']);
  writeFileSync(file, '{ "charging": ');
  expect(await conditions.look(false)).toBe(true);
  expect(conditions.holding).toEqual(['unmetered']);
  expect(warnings.splice(0)).toHaveLength(1);
  rmSync(file);
});

test('while the agent itself works the load of the device says nothing of others', async () => {
  const conditions = new Conditions({ set: { idle: 'auto' } }, warn);
  await conditions.look(false);
  const before = [...conditions.holding];
  expect(await conditions.look(true)).toBe(false);
  expect(conditions.holding).toEqual(before);
});

test.each([
  ['[]', /no JSON object/],
  ['null', /no JSON object/],
  ['{ "charging": "yes" }', /"charging" must be a name, with true or false/],
  ['{ "on fire": true }', /"on fire" must be a name/],
])('a file with %s is refused by what is wrong', (text, why) => {
  expect(() => parseConditions(text)).toThrow(why);
});
