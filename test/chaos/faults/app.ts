import { connect, type Client } from '@commonweight/client-sdk';

const PREDICT_EVERY_MS = 50;
const READY_MS = 60_000;

/** An app that predicts all the time, and which versions it served. It may be started again on the same cache. */
export class App {
  /** Versions that it activated, over all lives. */
  readonly served: number[] = [];
  /** Versions that its predictions came from, one after the other. */
  readonly answered: number[] = [];
  predictions = 0;
  failures = 0;
  readonly #url: string;
  readonly #cacheDir: string;
  readonly #model: string;
  readonly #inputs: number;
  #client: Client | undefined;
  #predicting: Promise<void> | undefined;

  constructor(options: { url: string; cacheDir: string; model: string; inputs: number }) {
    this.#url = options.url;
    this.#cacheDir = options.cacheDir;
    this.#model = options.model;
    this.#inputs = options.inputs;
  }

  async start(): Promise<void> {
    const client = await connect(this.#url, {
      cacheDir: this.#cacheDir,
      readyTimeoutMs: READY_MS,
      // The machine is made slow on purpose, and no version is to blame for it.
      probation: { latencyFactorMax: Infinity },
    });
    this.#client = client;
    const model = await client.model(this.#model).catch(async (error: unknown) => {
      await client.close();
      throw error;
    });
    model.on('version', ({ to }) => this.served.push(to));
    const input = new Float32Array(this.#inputs);
    this.#predicting = (async () => {
      while (this.#client === client) {
        try {
          const { version } = await model.predict({ input });
          this.predictions += 1;
          this.answered.push(version);
        } catch {
          if (this.#client === client) this.failures += 1;
        }
        await new Promise((resolve) => setTimeout(resolve, PREDICT_EVERY_MS));
      }
    })();
  }

  async end(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await this.#predicting;
    await client?.close();
  }
}
