/** What was measured on this machine before, by what was measured: in a folder, one file each, or in memory. */
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { readIfThere, writeAtomic } from '../cache/atomic-file.ts';
import type { RowTiming, VariantName } from './variant.ts';

/** Speed hangs on these and not on the values of the weights, so a family's next version need not be timed. */
export interface MeasurementKey {
  /** Which models are alike: name and graph. */
  family: string;
  runtime: string;
  device: string;
}

/** Median runs by form; forms that were not tried are missing. */
export type Timings = Readonly<Partial<Record<VariantName, readonly RowTiming[]>>>;

export class Measurements {
  readonly #folder: string | undefined;
  readonly #inMemory = new Map<string, Timings>();

  constructor(folder?: string) {
    this.#folder = folder;
  }

  /** Undefined where nothing was measured, or the file is damaged: then it is measured again. */
  async get(key: MeasurementKey): Promise<Timings | undefined> {
    if (this.#folder === undefined) return this.#inMemory.get(textOf(key));
    const bytes = await readIfThere(join(this.#folder, fileOf(key)));
    return bytes === undefined ? undefined : parsed(bytes, key);
  }

  async put(key: MeasurementKey, timings: Timings): Promise<void> {
    if (this.#folder === undefined) this.#inMemory.set(textOf(key), timings);
    else await writeAtomic(join(this.#folder, fileOf(key)), `${JSON.stringify({ ...key, timings })}\n`);
  }
}

const textOf = ({ family, runtime, device }: MeasurementKey): string => JSON.stringify([family, runtime, device]);
const fileOf = (key: MeasurementKey): string => `${createHash('sha256').update(textOf(key)).digest('hex')}.json`;

function parsed(bytes: Uint8Array, key: MeasurementKey): Timings | undefined {
  let json: Partial<MeasurementKey & { timings: Partial<Record<VariantName, unknown>> }>;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes)) as typeof json;
  } catch {
    return undefined;
  }
  const { family = '', runtime = '', device = '', timings } = json ?? {};
  if (textOf({ family, runtime, device }) !== textOf(key) || typeof timings !== 'object' || timings === null) {
    return undefined;
  }
  const entries = Object.entries(timings).filter(([, each]) => isTimings(each));
  return Object.fromEntries(entries) as Timings;
}

const isTimings = (value: unknown): value is RowTiming[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((each: Partial<RowTiming> | null) => Number.isInteger(each?.rows) && Number.isFinite(each?.ms));

/** The runtime's name and version. */
export function runtimeName(): string {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  return `onnxruntime-node ${version}`;
}

/** The processor, and how many of its threads one prediction gets. */
export const deviceName = (threads: number): string =>
  `${process.arch} ${cpus()[0]?.model.trim() ?? 'unknown'}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
