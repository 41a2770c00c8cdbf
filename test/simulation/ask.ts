import { TransportError } from '@commonweight/client-sdk';
import type { RandomStream } from '@commonweight/core';
import { ServiceError, type CoordinatorService } from '@commonweight/coordinator';
import type { SessionRequest } from '@commonweight/proto';
import type { Network } from './network.ts';

/** A coordinator as agents and apps reach it, for one life of it. */
export interface Edge {
  /** What the network calls the machine that it runs on. */
  readonly machine: string;
  service: CoordinatorService;
  /** A message of a session that is no stream. */
  receive(agentId: string, request: SessionRequest): void;
  isAlive(): boolean;
  /** Does some work as the process: at once, or when it goes on. */
  deliver(work: () => void): void;
  /** Calls when the process dies. */
  onEnd(work: () => void): void;
}

/** What asks: an agent or an app. */
export interface Asker {
  /** What the network calls it. */
  name: string;
  network: Network;
  random: RandomStream;
  /** The coordinator that it reaches now. */
  edge(): Edge | undefined;
  /** Whether its process lives. */
  isAlive(): boolean;
  /** The coordinator threw what it never should. */
  onBug(error: Error): void;
}

/** A request and its answer, as long as both processes live. Where nobody listens, `refused` says whether that is heard at once. */
export function ask<T>(
  { name, network, edge, isAlive, onBug }: Asker,
  refused: boolean,
  call: (service: CoordinatorService, edge: Edge) => Promise<T>,
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
export function worn({ random, network }: Asker, data: Uint8Array): Uint8Array {
  const copy = data.slice();
  if (copy.length > 0 && random.uniform() < network.weather.damage) copy[random.integer(copy.length)]! ^= 1;
  return copy;
}

/** Largest chunk of a blob or an update: small, so that there are several. */
const CHUNK_BYTES_MAX = 64;

export const chunkBytes = (random: RandomStream): number => 8 + random.integer(CHUNK_BYTES_MAX - 8);
