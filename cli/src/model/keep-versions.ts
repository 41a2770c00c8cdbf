import { KEEP_VERSIONS_MIN, type KeepVersions } from '@commonweight/coordinator';
import { name, whole } from '../output/arguments.ts';

/** `20`, or `digits=100` for one model, gathered over repeated flags; what comes later holds. */
export function keepVersions(text: string, before: KeepVersions = { models: {} }): KeepVersions {
  const at = text.indexOf('=');
  const count = whole(KEEP_VERSIONS_MIN)(text.slice(at + 1));
  if (at < 0) return { ...before, each: count };
  return { ...before, models: { ...before.models, [name(text.slice(0, at))]: count } };
}
