import { measurable } from '@commonweight/edge-agent';
import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { condition } from './device-flags.ts';

test('conditions hold, do not hold, or are found out where the device can tell', () => {
  expect(condition('unmetered', { charging: 'auto' })).toEqual({ charging: 'auto', unmetered: 'yes' });
  expect(condition('charging=no', { charging: 'auto' })).toEqual({ charging: 'no' });
  for (const name of measurable) expect(condition(`${name}=auto`, {})).toEqual({ [name]: 'auto' });
  expect(() => condition('unmetered=auto', {})).toThrow('Only charging and idle can be found out');
  expect(() => condition('charging=maybe', {})).toThrow(InvalidArgumentError);
});
