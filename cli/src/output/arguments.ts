import { requireLoopback, type LinkKind } from '@commonweight/client-sdk';
import { isLabelValue, isName, LABELS_MAX } from '@commonweight/proto';
import { InvalidArgumentError, type Command } from 'commander';

export const GRPC_ADDRESS = '127.0.0.1:8443';
/** Where a relay has its agents come. */
export const RELAY_ADDRESS = '127.0.0.1:8450';
export const HTTP_ADDRESS = '127.0.0.1:8080';
export const COORDINATOR_URL: string = `grpc://${GRPC_ADDRESS}`;

/** A whole number from `min` to `max`. */
export function whole(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(
      `Give a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? ' on' : ` to ${max}`}.`,
    );
  };
}

/** A number from `min` on. */
export function number(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && value >= min) return value;
    throw new InvalidArgumentError(`Give a number from ${min} on.`);
  };
}

/** A share of a whole. */
export function share(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value > 0 && value <= 1) return value;
  throw new InvalidArgumentError('Give a number above 0, and up to 1.');
}

/** A percentage above 0, as a number up to 100. */
export function percentage(text: string): number {
  const value = Number(text.replace(/ ?%$/, ''));
  if (text.trim() !== '' && value > 0 && value <= 100) return value;
  throw new InvalidArgumentError('Give a number above 0, and up to 100.');
}

/** `1,10,50,100` as `[1, 10, 50, 100]`. */
export const percentages = (text: string): number[] => text.split(',').map((one) => percentage(one.trim()));

const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30m` or `12h` as milliseconds. */
export function duration(text: string): number {
  const [, count, unit = ''] = /^(\d+(?:\.\d+)?)([smhd])$/.exec(text) ?? [];
  const ms = Math.round(Number(count) * (UNITS_MS[unit] ?? Number.NaN));
  if (ms >= 1000) return ms;
  throw new InvalidArgumentError('Give a time of a second or more, such as 45s, 30m, 12h or 7d.');
}

/** `beta1=0.9`, gathered over repeated flags. */
export function option(text: string, before: Record<string, number> = {}): Record<string, number> {
  const [key = '', value = ''] = text.split('=', 2);
  if (/^[A-Za-z]\w*$/.test(key) && value !== '') return { ...before, [key]: number(0)(value) };
  throw new InvalidArgumentError('Give key=value, such as beta1=0.9.');
}

/** `sequence=128`, gathered over repeated flags. */
export function openSize(text: string, before: Record<string, number> = {}): Record<string, number> {
  const at = text.lastIndexOf('=');
  if (at > 0) return { ...before, [text.slice(0, at)]: whole(1)(text.slice(at + 1)) };
  throw new InvalidArgumentError('Give name=size, such as sequence=128.');
}

/** `region=eu`, gathered over repeated flags. */
export function label(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf('=');
  const [key, value] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
  if (!isName(key) || !isLabelValue(value))
    throw new InvalidArgumentError('Give key=value, such as region=eu: a name, and up to 64 characters.');
  if (!(key in before) && Object.keys(before).length >= LABELS_MAX)
    throw new InvalidArgumentError(`There are up to ${LABELS_MAX} labels.`);
  return { ...before, [key]: value };
}

/** The values of a flag that may be given again. */
export const gathered = (text: string, before: readonly string[] = []): string[] => [...before, text];

/** `200,200` as `[200, 200]`. */
export const wholes = (text: string): number[] => text.split(',').map(whole(1, 1_000_000));

/** `a,b` as `['a', 'b']`. */
export const names = (text: string): string[] => text.split(',').map((one) => one.trim());

/** A model and its version, 0 being the newest. */
export interface VersionedName {
  name: string;
  version: number;
}

/** `digits` or `digits@3`. */
export function versionedName(text: string): VersionedName {
  const [model = '', version] = text.split('@', 2);
  return { name: name(model), version: version === undefined ? 0 : whole(1)(version) };
}

export function oneOf(...choices: readonly string[]): (text: string) => string {
  return (text) => {
    if (choices.includes(text)) return text;
    throw new InvalidArgumentError(`Choose one of ${choices.join(', ')}.`);
  };
}

/** The name of a model, a task or an agent. */
export function name(text: string): string {
  if (isName(text)) return text;
  throw new InvalidArgumentError('A name is letters, digits, - and _, at most 64.');
}

/** A coordinator's address over any of these links. */
export function coordinatorUrl(...kinds: readonly LinkKind[]): (text: string) => string {
  return (text) => {
    try {
      if (kinds.includes(requireLoopback(text).kind)) return text;
    } catch (error) {
      throw new InvalidArgumentError(`${(error as Error).message}.`);
    }
    throw new InvalidArgumentError(
      `Give an address that begins with ${kinds.map((kind) => `${kind}://`).join(' or ')}.`,
    );
  };
}

/** The options of every command that talks to a coordinator. */
export const talking = (command: Command, ...kinds: readonly LinkKind[]): Command =>
  reporting(command).option(
    '--coordinator <url>',
    'where the coordinator answers',
    coordinatorUrl(...kinds),
    COORDINATOR_URL,
  );

/** The options of every command. */
export const reporting = (command: Command): Command =>
  command.option('--json', 'one JSON object a line, for machines');
