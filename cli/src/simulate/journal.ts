import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { weightsFromBytes, weightsToBytes } from '@commonweight/core';
import { UsageError } from '../output/failure.ts';
import type { Downloads } from './downloads.ts';
import { csvOf, type RoundRecord } from './records.ts';
import type { Settings } from './settings.ts';

/** Where a simulation stands after a round. */
export interface Standing {
  round: number;
  weights: Float32Array;
  memory: readonly Float32Array[];
  /** What rounding left of the weights, where versions are rounded. */
  remainder?: Float32Array | undefined;
  downloads: Downloads;
  /** Names of the files of what each client kept, by client and what it is. */
  kept: Record<string, Record<string, string>>;
  records: RoundRecord[];
}

interface StateFile extends Omit<Standing, 'weights' | 'memory' | 'remainder'> {
  weights: string;
  memory: string[];
  remainder?: string;
}

/**
 * The folder of a simulation. After each round its state is written beside the one before and then takes its place, so that a run which is
 * cut off at any moment goes on from its last whole round: files of a round carry its number, and none is used that the state does not name.
 */
export class Journal {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Throws UsageError where the folder is another simulation's. A run may be made longer. */
  static async open(dir: string, settings: Settings): Promise<Journal> {
    await mkdir(join(dir, 'clients'), { recursive: true });
    const path = join(dir, 'settings.json');
    if (existsSync(path)) {
      const before = JSON.parse(await readFile(path, 'utf8')) as Settings;
      const differs = [...new Set([...Object.keys(before), ...Object.keys(settings)])].find(
        (key) =>
          key !== 'rounds' &&
          JSON.stringify(before[key as keyof Settings]) !== JSON.stringify(settings[key as keyof Settings]),
      );
      if (differs !== undefined) {
        throw new UsageError(
          `${dir} holds a simulation whose "${differs}" is another: give another --out, or the options of that one (${path})`,
        );
      }
    }
    await writeFile(path, `${JSON.stringify(settings, undefined, 2)}\n`);
    return new Journal(dir);
  }

  /** Where a client's file is. */
  clientFile(name: string): string {
    return join(this.#dir, 'clients', name);
  }

  async load(): Promise<Standing | undefined> {
    const path = join(this.#dir, 'state.json');
    if (!existsSync(path)) return undefined;
    const { weights, memory, remainder, ...rest } = JSON.parse(await readFile(path, 'utf8')) as StateFile;
    const vector = async (name: string): Promise<Float32Array> =>
      weightsFromBytes(await readFile(join(this.#dir, name)));
    return {
      ...rest,
      weights: await vector(weights),
      memory: await Promise.all(memory.map(vector)),
      ...(remainder === undefined ? {} : { remainder: await vector(remainder) }),
    };
  }

  async save(standing: Standing): Promise<void> {
    const { round, weights, memory, remainder, records, ...rest } = standing;
    const names = { weights: `weights.${round}.f32`, memory: memory.map((_, i) => `memory-${i}.${round}.f32`) };
    const left = remainder === undefined ? {} : { remainder: `remainder.${round}.f32` };
    await writeFile(join(this.#dir, names.weights), weightsToBytes(weights));
    if (remainder !== undefined) await writeFile(join(this.#dir, left.remainder ?? ''), weightsToBytes(remainder));
    for (const [i, vector] of memory.entries()) {
      await writeFile(join(this.#dir, names.memory[i] ?? ''), weightsToBytes(vector));
    }
    const state: StateFile = { ...rest, round, records, ...names, ...left };
    await this.#replace('state.json', JSON.stringify(state));
    await this.#replace('rounds.csv', csvOf(records));
    await this.#sweep(state);
  }

  async finish(results: object): Promise<void> {
    await this.#replace('results.json', `${JSON.stringify(results, undefined, 2)}\n`);
  }

  async #replace(name: string, text: string): Promise<void> {
    const path = join(this.#dir, name);
    await writeFile(`${path}.next`, text);
    await rename(`${path}.next`, path);
  }

  /** Removes the files of earlier rounds, and those of a round that was cut off. */
  async #sweep({ weights, memory, remainder, kept }: StateFile): Promise<void> {
    const vectors = [weights, ...memory, ...(remainder === undefined ? [] : [remainder])];
    const used = new Set(vectors.map((name) => join(this.#dir, name)));
    for (const files of Object.values(kept)) for (const file of Object.values(files)) used.add(this.clientFile(file));
    for (const folder of [this.#dir, join(this.#dir, 'clients')]) {
      for (const name of await readdir(folder)) {
        if (name.endsWith('.f32') && !used.has(join(folder, name))) await rm(join(folder, name));
      }
    }
  }
}
