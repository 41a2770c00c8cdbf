import type { ConditionSetting } from '@commonweight/edge-agent';
import { isName } from '@commonweight/proto';
import { InvalidArgumentError } from 'commander';

/** Conditions that a device can tell by itself; edge-agent/src/device/conditions.ts says how. */
const MEASURABLE = ['charging', 'idle'];

/** `unmetered`, `charging=no` or `charging=auto`, gathered over repeated flags. */
export function condition(text: string, before: Record<string, ConditionSetting>): Record<string, ConditionSetting> {
  const [name = '', how = 'yes', ...more] = text.split('=');
  if (!isName(name) || more.length > 0 || (how !== 'yes' && how !== 'no' && how !== 'auto'))
    throw new InvalidArgumentError('Give the name of a condition, alone or with =yes, =no or =auto.');
  if (how === 'auto' && !MEASURABLE.includes(name))
    throw new InvalidArgumentError(`Only ${MEASURABLE.join(' and ')} can be found out: say ${name}=yes or ${name}=no.`);
  return { ...before, [name]: how };
}
