/** What was measured on this machine before, by what was measured: one file each. */
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import type { Storage } from '../platform/storage.ts';
import type { RowTiming, VariantName } from './variant.ts';

/** Speed hangs on these and not on the values of the weights, so a family's next version need not be timed. */
export interface MeasurementKey {
  /** Which models are alike: name and graph. */
  family: string;
  /** Name and version of the runtime, and the engine. */
  runtime: string;
  device: string;
}

/** Milliseconds of a run by form; forms that were not tried are missing. */
export type Timings = Readonly<Partial<Record<VariantName, readonly RowTiming[]>>>;

const FOLDER = 'measured';

export class Measurements {
  readonly #storage: Storage;
  readonly #sha256: Sha256;

  constructor(storage: Storage, sha256: Sha256) {
    this.#storage = storage;
    this.#sha256 = sha256;
  }

  /** Undefined where nothing was measured, or the file is damaged: then it is measured again. */
  async get(key: MeasurementKey): Promise<Timings | undefined> {
    const bytes = await this.#storage.read(await this.#pathOf(key));
    return bytes === undefined ? undefined : parsed(bytes, key);
  }

  async put(key: MeasurementKey, timings: Timings): Promise<void> {
    const text = `${JSON.stringify({ ...key, timings })}\n`;
    await this.#storage.write(await this.#pathOf(key), new TextEncoder().encode(text));
  }

  async #pathOf(key: MeasurementKey): Promise<string> {
    return `${FOLDER}/${hex(await this.#sha256(new TextEncoder().encode(textOf(key))))}.json`;
  }
}

const textOf = ({ family, runtime, device }: MeasurementKey): string => JSON.stringify([family, runtime, device]);

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
