import { connectivityState, type Client } from '@grpc/grpc-js';

/**
 * A gRPC client that dials anew where no connection comes about. grpc-js leaves that to the system, which on a network that swallows packets
 * asks after 1, 2, 4 and so on up to 64 seconds: a network that is back would not be noticed for a minute. What waits on the old one fails as
 * unavailable.
 */
export class DialledClient {
  readonly #make: () => Client;
  readonly #dialMs: number;
  #client: Client;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(make: () => Client, dialMs: number) {
    this.#make = make;
    this.#dialMs = dialMs;
    this.#client = make();
  }

  /** The client for one call. */
  client(): Client {
    if (this.#timer === undefined && !this.#isReady) {
      this.#timer = setTimeout(() => this.#look(), this.#dialMs);
      this.#timer.unref();
    }
    return this.#client;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#client.close();
  }

  get #isReady(): boolean {
    return this.#client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#isReady) return;
    this.#client.close();
    this.#client = this.#make();
  }
}
