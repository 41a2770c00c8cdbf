import type { ConditionSetting } from '@commonweight/edge-agent';
import { isName, LABELS_MAX } from '@commonweight/proto';
import { InvalidArgumentError } from 'commander';

const VALUE_MAX = 64;
/** Conditions that a device can tell by itself; edge-agent/src/device/conditions.ts says how. */
const MEASURABLE = ['charging', 'idle'];

/** `site=north`, gathered over repeated flags. */
export function label(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=');
  const [key, value] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || !isName(key) || value === '' || value.length > VALUE_MAX)
    throw new InvalidArgumentError(`Give key=value, such as site=north, with up to ${VALUE_MAX} characters each.`);
  if (Object.keys(before).length >= LABELS_MAX)
    throw new InvalidArgumentError(`An agent has up to ${LABELS_MAX} labels.`);
  return { ...before, [key]: value };
}

/** `unmetered`, `charging=no` or `charging=auto`, gathered over repeated flags. */
export function condition(text: string, before: Record<string, ConditionSetting>): Record<string, ConditionSetting> {
  const [name = '', how = 'yes', ...more] = text.split('=');
  if (!isName(name) || more.length > 0 || (how !== 'yes' && how !== 'no' && how !== 'auto'))
    throw new InvalidArgumentError('Give the name of a condition, alone or with =yes, =no or =auto.');
  if (how === 'auto' && !MEASURABLE.includes(name))
    throw new InvalidArgumentError(`Only ${MEASURABLE.join(' and ')} can be found out: say ${name}=yes or ${name}=no.`);
  return { ...before, [name]: how };
}
