import { TransportError } from '@commonweight/client-sdk';
import { ServiceError, type BlobPart, type CoordinatorService, type ServiceErrorCode } from '@commonweight/coordinator';
import type {
  GetFoldingResponse,
  GetUpdateStatusResponse,
  Hello,
  SubmitPartResponse,
  SubmitUpdateResponse,
  UpdateHeader,
} from '@commonweight/proto';
import { ComingPart, foldingOf } from '../../coordinator/src/edges/grpc/relay-handlers.ts';
import type { PackedPart } from '../../coordinator/src/relay/packed-part.ts';
import type { Upward, UpSession, UpSessionListener } from '../../coordinator/src/relay/uplink.ts';
import { ask, worn, type AgentEdge, type Asker, type Edge } from './ask.ts';
import { StreamSession } from './link.ts';
import type { SimulatedProcess } from './process.ts';
import type { VirtualTime } from './virtual-time.ts';

export interface UplinkWorld extends Asker {
  time: VirtualTime;
  /** A coordinator says that an update is in the sum. */
  onTaken(header: UpdateHeader, by: AgentEdge): void;
}

/** How often the coordinator is asked whether it is there. */
const GREET_MS = 2_000;
const REFUSALS: readonly string[] = [
  'not-found',
  'already-exists',
  'invalid',
  'resource-exhausted',
] satisfies ServiceErrorCode[];

/** A relay's way to its coordinator over a simulated network: up while who answers there does so in time. */
export class SimulatedUplink implements Upward {
  readonly #world: UplinkWorld;
  readonly #onUp: () => void;
  readonly #onDown: (why: string) => void;
  readonly #sessions = new Map<StreamSession, (error: ServiceError) => void>();
  isUp = false;
  #isGreeting = false;

  constructor(world: UplinkWorld, process: SimulatedProcess, on: { up(): void; down(why: string): void }) {
    this.#world = world;
    this.#onUp = () => on.up();
    this.#onDown = (why) => on.down(why);
    process.every(GREET_MS, () => void this.#greet());
    process.onEnd(() => this.#end());
  }

  openSession(hello: Hello, { onMessage, onEnd }: UpSessionListener): UpSession {
    const isOpen = (): boolean => this.#sessions.has(session);
    const end = (error: ServiceError): void => {
      if (this.#sessions.delete(session)) onEnd(error);
    };
    const session: StreamSession = new StreamSession(
      hello,
      {
        onMessage: (message) => this.#world.isAlive() && isOpen() && onMessage(message),
        onClosed: (why) => this.#world.isAlive() && end(new ServiceError('unavailable', why)),
      },
      this.#world,
    );
    this.#sessions.set(session, end);
    return {
      send: (message) => session.send(message),
      close: () => {
        this.#sessions.delete(session);
        session.close();
      },
    };
  }

  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    return this.#ask((service) => service.updateStatus(updateId));
  }

  folding(task: string, round: number): Promise<GetFoldingResponse> {
    return this.#ask(async (service) => foldingOf(service, task, round));
  }

  ask(header: UpdateHeader): Promise<SubmitUpdateResponse> {
    return this.submit(header, new Uint8Array());
  }

  submit(header: UpdateHeader, payload: Uint8Array): Promise<SubmitUpdateResponse> {
    const data = worn(this.#world, payload);
    return this.#ask(async (service, edge) => {
      const said = await service.submitChunk(header.agentId, header, 0, data);
      if (said.accepted && said.receipt === undefined && edge.isAlive()) this.#world.onTaken(header, edge);
      return said;
    });
  }

  submitPart({ header, updates, sum }: PackedPart): Promise<SubmitPartResponse> {
    const data = worn(this.#world, sum);
    return this.#ask(async (service, edge) => {
      const coming = new ComingPart(header);
      coming.add(updates, data);
      const said = await service.submitPart(header, { updates: coming.updates, packed: coming.whole() });
      if (said.accepted && edge.isAlive()) for (const update of updates) this.#world.onTaken(update, edge);
      return said;
    });
  }

  readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    return this.#ask((service) => service.readBlob(digest, offset, lengthMax));
  }

  async #greet(): Promise<void> {
    if (this.#isGreeting) return;
    this.#isGreeting = true;
    try {
      await ask(this.#world, true, async (service) => service.publicKey);
      if (!this.isUp) {
        this.isUp = true;
        this.#onUp();
      }
    } catch (error) {
      const wasUp = this.isUp;
      const why = (error as Error).message;
      this.isUp = false;
      for (const [session, end] of [...this.#sessions]) {
        session.close();
        end(new ServiceError('unavailable', why));
      }
      if (wasUp) this.#onDown(why);
    } finally {
      this.#isGreeting = false;
    }
  }

  /** The relay's process is gone. */
  #end(): void {
    this.isUp = false;
    for (const session of this.#sessions.keys()) session.close();
    this.#sessions.clear();
  }

  async #ask<T>(call: (service: CoordinatorService, edge: Edge) => Promise<T>): Promise<T> {
    if (!this.isUp) throw new ServiceError('unavailable', 'the relay cannot reach its coordinator: try again');
    try {
      return await ask(this.#world, true, call);
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
      const { code, message } = error;
      if (REFUSALS.includes(code)) throw new ServiceError(code as ServiceErrorCode, message, { cause: error });
      void this.#greet();
      throw new ServiceError('unavailable', message, { cause: error });
    }
  }
}
