import type { ConfigError } from '@commonweight/core';
import { expect, test } from 'vitest';
import { config } from '../../../test/support/training.ts';
import { parseTaskConfig } from './policy.ts';

const parsed = (changes: object) => parseTaskConfig(JSON.stringify({ ...config, ...changes }));

test('a task says how its updates travel; nothing said is mxint8 of all values', () => {
  expect(parsed({})).toMatchObject({ encoding: 'mxint8' });
  expect(parsed({})).not.toHaveProperty('topK');
  expect(parsed({ encoding: 'mxint4', topK: 0.1 })).toMatchObject({ encoding: 'mxint4', topK: 0.1 });
});

test.each([
  [{ encoding: 'bf16' }, 'encoding', /encoding must be one of float32, mxint8, mxint4/],
  [{ encoding: 'topk-mxint8' }, 'encoding', /must be one of/],
  [{ topK: 0 }, 'topK', /above 0 and below 1/],
  [{ topK: 1 }, 'topK', /above 0 and below 1/],
  [{ topK: '0.1' }, 'topK', /above 0 and below 1/],
  [{ topK: 0.1, strategy: { name: 'scaffold' } }, 'topK', /scaffold adds vectors to updates.*leave topK out/],
  [{ topK: 0.1, strategy: { name: 'fedNova' } }, 'topK', /fedNova adds numbers to updates/],
  [{ encoding: 'mxint4', strategy: { name: 'fedNova' } }, 'encoding', /mxint4 is too coarse/],
])('%o is refused by the key to change', (changes, key, message) => {
  expect(() => parsed(changes)).toThrow(message);
  expect(() => parsed(changes)).toThrow(expect.objectContaining({ key }) as ConfigError);
});
