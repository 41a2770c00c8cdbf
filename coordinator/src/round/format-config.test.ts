import type { ConfigError } from '@commonweight/core';
import { expect, test } from 'vitest';
import { config } from '../../../test/support/training.ts';
import { parseTaskConfig } from './policy.ts';

const parsed = (changes: object) => parseTaskConfig(JSON.stringify({ ...config, ...changes }));

test('a task says how its updates travel; nothing said is mxint8 of all values', () => {
  expect(parsed({})).toMatchObject({ encoding: 'mxint8', compression: 'zstd' });
  expect(parsed({ compression: 'none' })).toMatchObject({ compression: 'none' });
  expect(parsed({})).not.toHaveProperty('topK');
  expect(parsed({ encoding: 'mxint4', topK: 0.1 })).toMatchObject({ encoding: 'mxint4', topK: 0.1 });
  expect(parsed({ encoding: 'mxint4', rotate: true })).toMatchObject({ encoding: 'mxint4', rotate: true });
  expect(parsed({ rotate: false })).not.toHaveProperty('rotate');
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
  [{ rotate: 1 }, 'rotate', /true or false/],
  [{ compression: 'gzip' }, 'compression', /must be zstd or none/],
  [{ rotate: true, encoding: 'float32' }, 'rotate', /float32 has all of them.*choose mxint4/],
  [{ rotate: true, topK: 0.1 }, 'rotate', /leave out rotate or topK/],
  [{ rotate: true, strategy: { name: 'scaffold' } }, 'rotate', /vectors that scaffold adds/],
  [{ rotate: true, strategy: { name: 'qFedAvg' } }, 'rotate', /numbers that qFedAvg adds/],
  [{ rotate: true, strategy: { name: 'median' } }, 'rotate', /rule of median looks at updates one by one/],
  [{ rotate: true, plan: { ...config.plan, localLayers: ['output*'] } }, 'rotate', /leave out rotate or localLayers/],
])('%o is refused by the key to change', (changes, key, message) => {
  expect(() => parsed(changes)).toThrow(message);
  expect(() => parsed(changes)).toThrow(expect.objectContaining({ key }) as ConfigError);
});
