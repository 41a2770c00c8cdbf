import { readFile } from 'node:fs/promises';
import { availableParallelism, loadavg, platform } from 'node:os';
import { isName } from '@commonweight/proto';
import { isCharging } from './power.ts';

/** Where it is known from whether a condition holds: what the operator says, or the device itself. */
export type ConditionSetting = 'yes' | 'no' | 'auto';

export interface ConditionOptions {
  /** By name; `auto` for those that the device can tell. */
  set: Readonly<Record<string, ConditionSetting>>;
  /** A JSON object such as `{ "charging": true }` that is read again and again, and wins over `set`. */
  file?: string;
}

/** Conditions that a device can tell, and how; undefined where this one cannot. */
const measures: Readonly<Record<string, () => Promise<boolean | undefined>>> = {
  charging: () => isCharging(),
  idle: async () => isIdle(loadavg()[0] ?? 0, availableParallelism()),
};

/** Names of the conditions that `auto` is for. */
export const measurable: readonly string[] = Object.keys(measures);

/** Processes that wait or run for each core, above which a device is in use. */
const LOAD_MAX = 0.5;

/** Windows has no such figure. */
const isIdle = (load: number, cores: number): boolean | undefined =>
  platform() === 'win32' ? undefined : load < LOAD_MAX * cores;

/** Which conditions hold, looked at again and again. What nobody knows does not hold. */
export class Conditions {
  readonly #options: ConditionOptions;
  readonly #warn: (text: string) => void;
  /** What was wrong with the file when it was last read. */
  #trouble = '';
  #holding: readonly string[] = [];
  #wasIdle = false;

  constructor(options: ConditionOptions, warn: (text: string) => void) {
    this.#options = options;
    this.#warn = warn;
  }

  /** Names in order. */
  get holding(): readonly string[] {
    return this.#holding;
  }

  /** Looks again; true where something is another than before. `isWorking`: a training of our own makes the load, so it says nothing. */
  async look(isWorking: boolean): Promise<boolean> {
    const { set, file } = this.#options;
    const said = file === undefined ? {} : await this.#read(file);
    const names = [...new Set([...Object.keys(set), ...Object.keys(said)])].sort();
    const holding: string[] = [];
    for (const name of names) if (said[name] ?? (await this.#holds(name, set[name], isWorking))) holding.push(name);
    const isChanged = holding.join() !== this.#holding.join();
    this.#holding = holding;
    return isChanged;
  }

  async #holds(name: string, setting: ConditionSetting = 'no', isWorking: boolean): Promise<boolean> {
    if (setting !== 'auto') return setting === 'yes';
    if (name === 'idle' && isWorking) return this.#wasIdle;
    const measured = (await measures[name]?.()) ?? false;
    if (name === 'idle') this.#wasIdle = measured;
    return measured;
  }

  /** What the file says; nothing where it cannot be read, which is told once. */
  async #read(file: string): Promise<Record<string, boolean>> {
    try {
      const said = parseConditions(await readFile(file, 'utf8'));
      this.#trouble = '';
      return said;
    } catch (error) {
      const trouble = `${file} says nothing of conditions: ${(error as Error).message}`;
      if (trouble !== this.#trouble) this.#warn(trouble);
      this.#trouble = trouble;
      return {};
    }
  }
}

/** Throws an Error that says what is wrong. */
export function parseConditions(text: string): Record<string, boolean> {
  const said: unknown = JSON.parse(text);
  if (typeof said !== 'object' || said === null || Array.isArray(said)) throw new Error('it is no JSON object');
  const wrong = Object.entries(said).find(([name, holds]) => !isName(name) || typeof holds !== 'boolean');
  if (wrong !== undefined) throw new Error(`"${wrong[0]}" must be a name, with true or false`);
  return said as Record<string, boolean>;
}
