import {
  Backoff,
  Client,
  downloadBlob,
  KeyPin,
  MemoryStorage,
  sha256,
  sleep,
  TransportError,
  verifyEd25519,
  type BlobChunk,
  type Engine,
  type Model,
  type ModelEvents,
  type ModelLink,
  type Session,
  type Storage,
} from '@commonweight/client-sdk';
import { readModel, splitModel } from '@commonweight/core';
import type { SignedManifest } from '@commonweight/proto';
import { ask, chunkBytes, worn, type Asker } from './ask.ts';
import type { VirtualTime } from './virtual-time.ts';

const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** Longest that a write to the disk takes, and that loading a version takes. */
const WRITE_MS = 30;
const LOAD_MS = 200;
/** What an app that says so too early takes to write. */
const LATE_MS = 60_000;
/** How often the state is read, beside what is announced. */
const READ_EVERY_MS = 30_000;
/** Where a first version did not come in time, the app tries again after this. */
const AGAIN_MS = 5_000;

/** Faults to plant in apps. */
export interface PlantedInApp {
  /** It takes bytes without looking at their digest. */
  believesAnyBytes?: boolean;
  /** Writes are said to be done long before they are. */
  saysTooEarly?: boolean;
}

export interface AppWorld extends Asker {
  time: VirtualTime;
  coordinatorKey: Uint8Array;
  trace(line: string): void;
  /** Another version serves. */
  onVersion(event: ModelEvents['version']): void;
  /** A version passed its probation, which is on the disk. */
  onCommitted(version: number): void;
  /** A prediction of a version came from these weights. */
  onAnswer(version: number, weights: readonly number[]): void;
  planted: PlantedInApp;
}

/** One life of an app: the production SDK between a simulated link, a disk that outlives it, and a runtime that says which weights it has. */
export class SimulatedApp {
  readonly link: SimulatedModelLink;
  readonly #world: AppWorld;
  readonly #random: AppWorld['random'];
  #client: Client | undefined;
  #model: Model | undefined;
  #isAlive = true;

  constructor(durable: Storage, world: Omit<AppWorld, 'isAlive'>) {
    this.#world = { ...world, isAlive: () => this.#isAlive };
    this.#random = world.random.fork('app');
    this.link = new SimulatedModelLink(this.#world);
    this.#begin(durable).catch((error: Error) => world.onBug(error));
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get version(): number | undefined {
    return this.#model?.version;
  }

  async #begin(durable: Storage): Promise<void> {
    const { name, trace, onVersion, onCommitted, coordinatorKey } = this.#world;
    const engine: Engine = {
      name: 'ort-cpu',
      runtime: async () => 'simulated 1',
      load: (onnx) => this.#load(onnx),
      close: async () => {},
    };
    const client = new Client(
      {
        link: this.link,
        pin: await KeyPin.open({ given: coordinatorKey }),
        engine,
        openEngine: () => engine,
        storage: this.#disk(durable),
        crypto: { sha256, verifyEd25519 },
        who: { clientId: name, labels: {} },
      },
      { reports: false },
    );
    this.#client = client;
    for (;;) {
      try {
        const model = await client.model('digits');
        if (!this.#isAlive) return;
        this.#model = model;
        model.on('version', (event) => this.#isAlive && onVersion(event));
        model.on('committed', ({ version }) => this.#isAlive && onCommitted(version));
        model.on('error', (error) => trace(`${name}: ${error.message}`));
        return;
      } catch (error) {
        if (!this.#isAlive) return;
        if (!(error instanceof TransportError)) throw error;
        trace(`${name}: ${error.message}`);
        await this.#world.time.sleep(AGAIN_MS);
      }
    }
  }

  /** Asks for a prediction, which must come from the version that it names. */
  async ask(): Promise<void> {
    const model = this.#model;
    if (model === undefined) return;
    const { onAnswer, onBug } = this.#world;
    try {
      const input = new Float32Array(model.contract?.inputs[0]?.dims.at(-1) ?? 0);
      const { outputs, version } = await model.predict({ input });
      if (this.#isAlive) onAnswer(version, [...outputs['weights']!.data] as number[]);
    } catch (error) {
      if (this.#isAlive) onBug(new Error(`${this.#world.name}: a prediction failed: ${(error as Error).message}`));
    }
  }

  async #load(onnx: Uint8Array): ReturnType<Engine['load']> {
    await this.#wait(LOAD_MS);
    const { weights } = splitModel(readModel(onnx));
    const logits = { data: new Float32Array(2), dims: [1, 2], type: 'float32' } as const;
    const all = { data: weights, dims: [weights.length], type: 'float32' } as const;
    const run: Session['run'] = async () => {
      await this.#wait(WRITE_MS);
      return { logits, weights: all };
    };
    return { run, release: async () => {} };
  }

  /** Writes take time; those that a kill cuts off are not there, and nobody hears of them. */
  #disk(durable: Storage): Storage {
    const { time, planted } = this.#world;
    const write = async (apply: () => Promise<void>): Promise<void> => {
      if (planted.saysTooEarly === true) return void time.after(LATE_MS, () => this.#isAlive && void apply());
      await this.#wait(WRITE_MS);
      await apply();
      await this.#wait(WRITE_MS);
    };
    return {
      read: (path) => durable.read(path),
      list: (folder) => durable.list(folder),
      where: (path) => durable.where(path),
      write: (path, bytes) => write(() => durable.write(path, bytes.slice())),
      remove: (path) => write(() => durable.remove(path)),
    };
  }

  /** Some time at most; no end of it once the process is dead. */
  async #wait(msMax: number): Promise<void> {
    await this.#world.time.sleep(msMax * this.#random.uniform());
    if (!this.#isAlive) await never();
  }

  /** The process dies; what is under way ends without a trace. */
  kill(): void {
    this.#isAlive = false;
    void this.link.close();
    void this.#client?.close();
  }
}

export const emptyStorage = (): Storage => new MemoryStorage();

/** The port of the production SDK: hints of versions, which may be lost, late or doubled, and the state, which is read now and then. */
class SimulatedModelLink implements ModelLink {
  readonly #world: AppWorld;
  readonly #chunkBytes: number;
  readonly #closed = new AbortController();
  readonly #watches = new Set<(release: SignedManifest) => void>();

  constructor(world: AppWorld) {
    this.#world = world;
    this.#chunkBytes = chunkBytes(world.random);
  }

  /** Somebody says that this is the newest. */
  deliver(release: SignedManifest): void {
    for (const tell of this.#watches) tell(release);
  }

  getModel(model: string, version: number): Promise<SignedManifest> {
    return ask(this.#world, false, (service) => service.getModel(model, version));
  }

  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown: (error: TransportError) => void = () => {},
  ): () => void {
    const stop = new AbortController();
    this.#watches.add(onRelease);
    stop.signal.addEventListener('abort', () => this.#watches.delete(onRelease));
    void this.#readAgainAndAgain(model, onRelease, onDown, AbortSignal.any([stop.signal, this.#closed.signal]));
    return () => stop.abort();
  }

  async #readAgainAndAgain(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown: (error: TransportError) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const backoff = new Backoff();
    while (!signal.aborted) {
      let waitMs = READ_EVERY_MS * (0.75 + Math.random() / 2);
      try {
        onRelease(await this.getModel(model, 0));
        backoff.connected();
      } catch (error) {
        onDown(error as TransportError);
        waitMs = backoff.nextMs();
      }
      await sleep(waitMs, signal);
    }
  }

  download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    const { signal } = this.#closed;
    return downloadBlob((blob, offset, stop) => this.#read(blob, offset, stop), digest, size, {
      sha256: this.#world.planted.believesAnyBytes === true ? () => digest : sha256,
      signal,
      onProgress,
    });
  }

  async *#read(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> {
    for (let at = offset; !signal.aborted;) {
      const { data, totalSize } = await ask(this.#world, false, (service) =>
        service.readBlob(digest, at, this.#chunkBytes),
      );
      yield { offset: at, totalSize, data: worn(this.#world, data) };
      at += data.length;
      if (at >= totalSize || data.length === 0) return;
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }
}
