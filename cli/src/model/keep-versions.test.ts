import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { keepVersions } from './keep-versions.ts';

test('one number is for all models, and a name before it for one', () => {
  const both = ['20', 'digits=100', 'flowers=2'].reduce<ReturnType<typeof keepVersions> | undefined>(
    (before, text) => keepVersions(text, before),
    undefined,
  );
  expect(both).toEqual({ each: 20, models: { digits: 100, flowers: 2 } });
  expect(keepVersions('digits=3')).toEqual({ models: { digits: 3 } });
});

test.each(['1', '0', 'many', 'digits=1', '=5', 'a b=5', 'digits='])('%s is wrong usage', (text) => {
  expect(() => keepVersions(text)).toThrow(InvalidArgumentError);
});
