import { ConfigError } from '@commonweight/core';
import { isName, LABELS_MAX, type Hello } from '@commonweight/proto';
import { record, requireKeys, whole } from './fields.ts';

/** Which agents a task may invite: all that is said must hold of an agent. */
export interface Where {
  /** Values by label; an agent must have one of them. */
  labels?: Readonly<Record<string, readonly string[]>>;
  /** What trains on it: one of these. */
  engine?: readonly string[];
  /** One of these, such as `linux-x64`. */
  platform?: readonly string[];
  /** Lowest version of its software, such as `0.2.0`. */
  softwareMin?: string;
  memoryMiBMin?: number;
  coresMin?: number;
  examplesMin?: number;
  /** What must hold now, and as long as it trains. */
  conditions?: readonly string[];
}

const KEYS = ['labels', 'engine', 'platform', 'softwareMin', 'memoryMiBMin', 'coresMin', 'examplesMin', 'conditions'];
const VERSION = /^\d{1,6}(\.\d{1,6}){0,3}$/;

/** Throws ConfigError naming the key. */
export function parseWhere(value: unknown): Where {
  const given = record(value, 'where');
  requireKeys(given, KEYS, 'where');
  const { softwareMin } = given;
  if (softwareMin !== undefined && (typeof softwareMin !== 'string' || !VERSION.test(softwareMin)))
    throw new ConfigError('where.softwareMin must be a version, such as "0.2.0"', 'where.softwareMin');
  return {
    ...(given['labels'] === undefined ? {} : { labels: parseLabels(record(given['labels'], 'where.labels')) }),
    ...(given['engine'] === undefined ? {} : { engine: texts(given['engine'], 'where.engine') }),
    ...(given['platform'] === undefined ? {} : { platform: texts(given['platform'], 'where.platform') }),
    ...(softwareMin === undefined ? {} : { softwareMin }),
    ...least(given, 'memoryMiBMin', 2 ** 32 - 1),
    ...least(given, 'coresMin', 1_000_000),
    ...least(given, 'examplesMin', Number.MAX_SAFE_INTEGER),
    ...(given['conditions'] === undefined ? {} : { conditions: names(texts(given['conditions'], 'where.conditions')) }),
  };
}

/** What of an agent does not fit first, in words; undefined where it qualifies. */
export function unmet(
  where: Where,
  { capabilities, conditions, examples, labels, software }: Hello,
): string | undefined {
  const { engine = '', memoryMib = 0, cores = 0, platform = '' } = capabilities ?? {};
  for (const [label, values] of Object.entries(where.labels ?? {})) {
    if (!values.includes(labels[label] ?? '')) return `label ${label}`;
  }
  if (where.engine?.includes(engine) === false) return 'engine';
  if (where.platform?.includes(platform) === false) return 'platform';
  if (where.softwareMin !== undefined && isOlder(software, where.softwareMin)) return 'software';
  if (memoryMib < (where.memoryMiBMin ?? 0)) return 'memory';
  if (cores < (where.coresMin ?? 0)) return 'cores';
  if (examples < BigInt(where.examplesMin ?? 0)) return 'examples';
  const lacking = where.conditions?.find((condition) => !conditions.includes(condition));
  return lacking === undefined ? undefined : `condition ${lacking}`;
}

/** Whether one version is below another; what is no version is below all. */
function isOlder(software: string, least: string): boolean {
  const [plain = ''] = software.split(/[-+]/, 1);
  if (!VERSION.test(plain)) return true;
  const [one, other] = [plain, least].map((version) => version.split('.').map(Number)) as [number[], number[]];
  for (const [i, part] of other.entries()) if ((one[i] ?? 0) !== part) return (one[i] ?? 0) < part;
  return false;
}

function parseLabels(given: Record<string, unknown>): Where['labels'] & {} {
  const entries = Object.entries(given);
  if (entries.length === 0 || entries.length > LABELS_MAX)
    throw new ConfigError(`where.labels must have 1 to ${LABELS_MAX} labels`, 'where.labels');
  return Object.fromEntries(
    entries.map(([label, value]) => {
      if (!isName(label)) throw new ConfigError(`where.labels: "${label}" is no name of a label`, 'where.labels');
      return [label, texts(value, `where.labels.${label}`)];
    }),
  );
}

/** A text, or a list of some. */
function texts(value: unknown, key: string): readonly string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const isText = (one: unknown): one is string => typeof one === 'string' && one.length >= 1 && one.length <= 64;
  if (list.length >= 1 && list.length <= LABELS_MAX && list.every(isText)) return list;
  throw new ConfigError(`${key} must be a text of up to 64 characters, or a list of up to ${LABELS_MAX}`, key);
}

function names(conditions: readonly string[]): readonly string[] {
  const wrong = conditions.find((one) => !isName(one));
  if (wrong === undefined) return conditions;
  throw new ConfigError(`where.conditions: "${wrong}" is no name of a condition`, 'where.conditions');
}

const least = (given: Record<string, unknown>, key: string, max: number): Record<string, number> =>
  given[key] === undefined ? {} : { [key]: whole(given, key, `where.${key}`, 1, max) };
