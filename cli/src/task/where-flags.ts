import { UsageError } from '../output/failure.ts';

type Config = Record<string, unknown>;

/** Keys of a configuration's `where` that are numbers, by what people type. */
const NUMBERS: Readonly<Record<string, string>> = {
  memory: 'memoryMiBMin',
  cores: 'coresMin',
  examples: 'examplesMin',
};
const TEXTS: Readonly<Record<string, string>> = { engine: 'engine', platform: 'platform', software: 'softwareMin' };

/** `where` of a configuration from what was typed: `site=north` is a label, `memory=2048` a least number, `charging` a condition. */
export function whereOf(file: Config, typed: readonly string[] = []): Config {
  const where: Config = { ...file };
  for (const text of typed) {
    const at = text.indexOf('=');
    const [key, value] = at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
    if (key === '' || value === '') throw new UsageError(`--where ${text}: give site=north, memory=2048 or charging`);
    if (value === undefined) where['conditions'] = [...((where['conditions'] ?? []) as string[]), key];
    else if (Object.hasOwn(NUMBERS, key)) where[NUMBERS[key]!] = wholeOf(text, value);
    else if (Object.hasOwn(TEXTS, key)) where[TEXTS[key]!] = value;
    else where['labels'] = labelled((where['labels'] ?? {}) as Config, key, value);
  }
  return where;
}

/** The same label again is another value that will do. */
function labelled(before: Config, key: string, value: string): Config {
  const known = before[key];
  return { ...before, [key]: known === undefined ? value : [known, value].flat() };
}

function wholeOf(text: string, value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value);
  throw new UsageError(`--where ${text}: ${value} is no whole number`);
}
