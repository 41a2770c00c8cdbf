import { TransportError } from '@commonweight/client-sdk';
import type { RandomStream } from '@commonweight/core';
import { ServiceError, type AgentGate, type CoordinatorService } from '@commonweight/coordinator';
import type { SessionRequest } from '@commonweight/proto';
import type { Network } from './network.ts';

/** What agents reach, for one life of it: a coordinator, or a relay before one. */
export interface AgentEdge {
  /** What the network calls the machine that it runs on. */
  readonly machine: string;
  service: AgentGate;
  /** A message of a session that is no stream. */
  receive(agentId: string, request: SessionRequest): void;
  isAlive(): boolean;
  /** Does some work as the process: at once, or when it goes on. */
  deliver(work: () => void): void;
  /** Calls when the process dies. */
  onEnd(work: () => void): void;
}

/** A coordinator as agents, apps and relays reach it. */
export interface Edge extends AgentEdge {
  service: CoordinatorService;
}

/** What asks: an agent, an app or a relay. */
export interface Asker<E extends AgentEdge = Edge> {
  /** What the network calls it. */
  name: string;
  network: Network;
  random: RandomStream;
  /** What it reaches now. */
  edge(): E | undefined;
  /** Whether its process lives. */
  isAlive(): boolean;
  /** The coordinator threw what it never should. */
  onBug(error: Error): void;
}

/** A request and its answer, as long as both processes live. Where nobody listens, `refused` says whether that is heard at once. */
export function ask<T, E extends AgentEdge>(
  { name, network, edge, isAlive, onBug }: Asker<E>,
  refused: boolean,
  call: (service: E['service'], edge: E) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const serve = async (): Promise<T> => {
      const now = edge();
      if (now === undefined) {
        if (!refused) return new Promise<T>(() => {});
        throw new TransportError('unavailable', 'nobody listens');
      }
      if (network.isCut(now.machine)) return new Promise<T>(() => {});
      try {
        await new Promise<void>((go) => now.deliver(go));
        return await call(now.service, now);
      } catch (error) {
        if (error instanceof ServiceError) throw new TransportError(error.code, error.message);
        onBug(error as Error);
        throw error;
      }
    };
    network.request(name, serve).then(
      (answer) => isAlive() && resolve(answer),
      (error: Error) =>
        isAlive() && reject(error instanceof TransportError ? error : new TransportError('deadline', error.message)),
    );
  });
}

/** A copy of what is sent, now and then with a flipped bit. */
export function worn({ random, network }: Pick<Asker, 'random' | 'network'>, data: Uint8Array): Uint8Array {
  const copy = data.slice();
  if (copy.length > 0 && random.uniform() < network.weather.damage) copy[random.integer(copy.length)]! ^= 1;
  return copy;
}

/** Largest chunk of a blob or an update: small, so that there are several. */
const CHUNK_BYTES_MAX = 64;

export const chunkBytes = (random: RandomStream): number => 8 + random.integer(CHUNK_BYTES_MAX - 8);
