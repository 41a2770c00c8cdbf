import { LABELS_MAX } from '@commonweight/proto';
import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { label } from './arguments.ts';

test('labels are gathered, and one that is none is wrong usage', () => {
  expect(label('site=north', label('tier=a=b'))).toEqual({ tier: 'a=b', site: 'north' });
  for (const wrong of ['site', '=north', 'site=', 'a b=c', `site=${'x'.repeat(65)}`]) {
    expect(() => label(wrong)).toThrow(InvalidArgumentError);
  }
});

test('there are only so many labels, and one may be said again', () => {
  const all = Array.from({ length: LABELS_MAX }, (_, i) => `l${i}=a`).reduce((before, text) => label(text, before), {});
  expect(() => label('more=a', all)).toThrow(`There are up to ${LABELS_MAX} labels.`);
  expect(label('l0=b', all)).toEqual({ ...all, l0: 'b' });
});
