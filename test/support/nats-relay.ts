import { seeded, type RandomStream } from '@commonweight/core';
import { connect, headers, type Msg, type NatsConnection, type Subscription } from '@nats-io/transport-node';

export interface RelayWeather {
  /** Chances of one message. */
  loss?: number;
  double?: number;
  /** Uniform from 0: messages overtake each other. */
  delayMsMax?: number;
}

/** Messages that wait to be delivered; more are lost. */
const WAITING_MAX = 10_000;
/** Requests that still wait for their answers; older ones are forgotten. */
const REQUESTS_MAX = 10_000;

/**
 * Carries messages between agents and apps at one NATS server and a coordinator at another, and loses, doubles, delays and
 * reorders them, requests and answers alike.
 */
export class NatsRelay {
  weather: RelayWeather;
  readonly counts = { carried: 0, doubled: 0, lost: 0 };
  readonly #random: RandomStream;
  readonly #near: NatsConnection;
  readonly #far: NatsConnection;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Where the answers of each request go. */
  readonly #replies = new Map<string, string>();
  #requests = 0;

  private constructor(near: NatsConnection, far: NatsConnection, seed: number, weather: RelayWeather) {
    this.#near = near;
    this.#far = far;
    this.#random = seeded(seed);
    this.weather = weather;
  }

  /** Between the server of agents and apps, and that of the coordinator. */
  static async open(near: string, far: string, seed: number, weather: RelayWeather = {}): Promise<NatsRelay> {
    const open = (url: string): Promise<NatsConnection> =>
      connect({ servers: url.replace('nats://', ''), maxReconnectAttempts: -1, reconnectTimeWait: 200 });
    const relay = new NatsRelay(await open(near), await open(far), seed, weather);
    const answers = relay.#far.subscribe('relay.answer.*');
    relay.#carry(answers, (message) => {
      const reply = relay.#replies.get(message.subject);
      if (reply !== undefined) relay.#pass(relay.#near, reply, message);
    });
    for (const subject of [
      'cw.v1.agent.*.session',
      'cw.v1.agent.*.submit',
      'cw.v1.agent.*.status',
      // What is for the coordinator of a session alone.
      'cw.v1.agent.*.session.*',
      'cw.v1.agent.*.submit.*',
      'cw.v1.agent.*.status.*',
      'cw.v1.agent.*.download',
      'cw.v1.model.*',
    ]) {
      relay.#carry(relay.#near.subscribe(subject), (message) => relay.#pass(relay.#far, message.subject, message));
    }
    for (const subject of ['cw.v1.agent.*.inbox', 'cw.v1.release.*', 'cw.v1.coordinator.started']) {
      relay.#carry(relay.#far.subscribe(subject), (message) => relay.#pass(relay.#near, message.subject, message));
    }
    await Promise.all([relay.#near.flush(), relay.#far.flush()]);
    return relay;
  }

  #carry(subscription: Subscription, carry: (message: Msg) => void): void {
    const read = async (): Promise<void> => {
      for await (const message of subscription) carry(message);
    };
    void read();
  }

  #pass(to: NatsConnection, subject: string, message: Msg): void {
    const { loss = 0, double = 0, delayMsMax = 0 } = this.weather;
    if (this.#random.uniform() < loss || this.#timers.size >= WAITING_MAX) {
      this.counts.lost += 1;
      return;
    }
    const copies = this.#random.uniform() < double ? 2 : 1;
    this.counts.carried += 1;
    this.counts.doubled += copies - 1;
    const reply = to === this.#far && message.reply ? this.#replyFor(message.reply) : undefined;
    const sent = headers();
    for (const [key, values] of message.headers ?? []) for (const value of values) sent.append(key, value);
    const options = {
      ...(reply === undefined ? {} : { reply }),
      ...(message.headers === undefined ? {} : { headers: sent }),
    };
    const data = message.data.slice();
    for (let copy = 0; copy < copies; copy++) {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        if (!to.isClosed()) to.publish(subject, data, options);
      }, delayMsMax * this.#random.uniform());
      this.#timers.add(timer);
    }
  }

  #replyFor(reply: string): string {
    const subject = `relay.answer.${(this.#requests += 1)}`;
    this.#replies.set(subject, reply);
    if (this.#replies.size > REQUESTS_MAX) this.#replies.delete(this.#replies.keys().next().value!);
    return subject;
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all([this.#near.close(), this.#far.close()]);
  }
}
