/** Which engines a client runs models with. */
import { lackOf, onnxRuntimeAbilities, type ModelNeeds } from '@commonweight/core';
import { ModelError } from '../errors.ts';
import type { Engine, EngineName, Session } from './engine.ts';

/** What a device is called whose GPU does not say its name. */
export const UNKNOWN_GPU = 'unknown gpu';

/** An engine that there may be on this machine. */
export interface EngineSource {
  name: EngineName;
  open(options: { threads: number }): Engine;
  /** Tries it, and says what is wrong; undefined where it works. */
  whyNot(): Promise<string | undefined>;
  /** What it runs on, in words, the GPU and its driver among them: speeds that were measured hold for that. */
  device(threads: number): Promise<string> | string;
  /** What it lacks of what a model needs, in words; undefined where it has all. Without this, all is tried. */
  lacks?(needs: ModelNeeds): string | undefined;
  /** It computes in float16 where a model does, so that this may be faster on it. */
  computesInHalf?: true;
  /** Never faster than the others: only for where none of them works. */
  isFallback?: true;
}

/** Of every engine that is ONNX Runtime. */
export const onnxRuntimeLacks = (needs: ModelNeeds): string | undefined => lackOf(needs, onnxRuntimeAbilities);

/** At least one. */
export type EngineSources = readonly [EngineSource, ...EngineSource[]];

/**
 * The engines to run models with. Of `known`, which has the one for everybody first, that is the one that was asked for; `auto` means all that
 * work, to be measured against each other. Throws ModelError where what was asked for does not work here, and TypeError where no such thing is known.
 */
export async function enginesFor(asked: EngineName | 'auto', known: EngineSources): Promise<EngineSources> {
  const [usual] = known;
  if (asked === usual.name) return [usual];
  if (asked !== 'auto') {
    const source = known.find(({ name }) => name === asked);
    if (source === undefined) {
      throw new TypeError(
        `there is no engine '${asked}' here: take ${known.map(({ name }) => name).join(', ')} or auto, or bring it: connect(url, { engines })`,
      );
    }
    const why = await source.whyNot();
    if (why === undefined) return [source];
    throw new ModelError(`${asked} does not work here: ${why}; 'auto' takes what works`);
  }
  const working: EngineSource[] = [];
  const whys: string[] = [];
  // One after the other: they share the machine.
  for (const source of known) {
    if (source.isFallback === true && working.length > 0) continue;
    const why = await source.whyNot();
    if (why === undefined) working.push(source);
    else whys.push(`${source.name}: ${why}`);
  }
  const [first, ...others] = working;
  if (first === undefined) throw new ModelError(`no engine works here: ${whys.join('; ')}`);
  return [first, ...others];
}

/** Several engines as one, each opened with its first model. */
export class Engines implements Engine {
  readonly name: EngineName;
  readonly #sources: EngineSources;
  readonly #threads: number;
  readonly #opened = new Map<EngineName, Engine>();
  #isClosed = false;

  constructor(sources: EngineSources, { threads }: { threads: number }) {
    this.name = sources[0].name;
    this.#sources = sources;
    this.#threads = threads;
  }

  async runtime(on?: EngineName): Promise<string> {
    return await this.#engine(on).runtime();
  }

  async load(onnx: Uint8Array, on?: EngineName): Promise<Session> {
    return await this.#engine(on).load(onnx);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#opened.values()].map((engine) => engine.close()));
  }

  #engine(name: EngineName = this.name): Engine {
    if (this.#isClosed) throw new ModelError('the client is closed');
    let engine = this.#opened.get(name);
    if (engine === undefined) {
      const source = this.#sources.find((each) => each.name === name);
      if (source === undefined) throw new TypeError(`this client does not run ${name}`);
      engine = source.open({ threads: this.#threads });
      this.#opened.set(name, engine);
    }
    return engine;
  }
}
