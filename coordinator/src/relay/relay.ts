import { join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import {
  equalBytes,
  GetUpdateStatusResponseSchema,
  isName,
  ReceiptSchema,
  SessionResponseSchema,
  SubmitUpdateResponseSchema,
  type GetUpdateStatusResponse,
  type Hello,
  type OfferedUpdate,
  type SignedReceipt,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Clock } from '../clock.ts';
import { wrongWith } from '../driver/agent-sessions.ts';
import { hex, isWhole, ownsId, refusalOfBytes } from '../driver/task-work.ts';
import { Uploads } from '../driver/uploads.ts';
import { ServiceError, type AgentGate, type AgentSession, type AgentSink, type BlobPart } from '../service.ts';
import type { BlobCache } from './blob-cache.ts';
import type { RelayFigures } from './figures.ts';
import { RelayedSession } from './relayed-session.ts';
import { SiteRound, type SiteWorld } from './site-round.ts';
import type { UpdateSpool } from './spool.ts';
import type { Upward } from './uplink.ts';

/** As many as a coordinator takes. */
const SESSIONS_MAX = 20_000;
/** How often it is looked what is due. */
const LOOK_MS = 100;
/** How often the coordinator is asked about updates whose agents are not here to hear of them. */
const DOUBT_MS = 10_000;
/** How long what is under way may take when the relay ends. */
const DRAIN_MS = 5_000;
/** Rounds of one task that are remembered with nothing kept of them: agents may deliver late. */
const ROUNDS_KEPT = 4;

interface RelayParts {
  uplink: Upward;
  spool: UpdateSpool;
  blobs: Pick<BlobCache, 'read'>;
  figures: RelayFigures;
  /** Where updates are that came in part. */
  dir: string;
  waitMs: number;
  clock: Clock;
  log(line: string): void;
}

/**
 * What agents of a site see as their coordinator. It decides nothing: who is invited and what counts the coordinator says, and every receipt
 * is the coordinator's. It keeps what agents hand in until it hears how that ended.
 */
export class Relay implements AgentGate {
  readonly #parts: RelayParts;
  readonly #world: SiteWorld;
  readonly #uploads: Uploads;
  readonly #sessions = new Map<string, RelayedSession>();
  /** By task, oldest first. */
  readonly #rounds = new Map<string, SiteRound[]>();
  readonly #stops: (() => void)[];
  #isClosing = false;

  constructor(parts: RelayParts) {
    this.#parts = parts;
    const { uplink, spool, figures, dir, waitMs, clock, log } = parts;
    const nowMs = (): number => clock.monotonicMs();
    this.#uploads = new Uploads(nowMs, join(dir, 'uploads'));
    this.#world = {
      uplink,
      spool,
      figures,
      waitMs,
      nowMs,
      log,
      isConnected: (agentId) => this.#sessions.has(agentId),
      ended: (agentId, receipt) => {
        const message = create(SessionResponseSchema, { message: { case: 'receipt', value: receipt } });
        this.#sessions.get(agentId)?.tell(message);
      },
    };
    for (const header of spool.headers()) this.#roundOf(header.task, Number(header.round)).restore(header);
    this.#stops = [
      clock.every(LOOK_MS, () => this.#lookAtAll()),
      clock.every(DOUBT_MS, () => this.#doubt((agentId) => !this.#sessions.has(agentId))),
    ];
  }

  /** Updates that have not ended. */
  get kept(): number {
    return [...this.#rounds.values()].flat().reduce((sum, { size }) => sum + size, 0);
  }

  /** The coordinator is there: sessions go on, and what it may have forgotten it is asked about. */
  reached(): void {
    this.#doubt(() => true);
    for (const session of this.#sessions.values()) session.reach();
  }

  connectAgent(hello: Hello, sink: AgentSink): AgentSession {
    const { agentId } = hello;
    if (this.#isClosing) throw new ServiceError('unavailable', 'this relay is ending: try again');
    if (!isName(agentId))
      throw new ServiceError('invalid', `agent id "${agentId.slice(0, 80)}" may have letters, digits, - and _ only`);
    const wrong = wrongWith(hello);
    if (wrong !== undefined) throw new ServiceError('invalid', `agent ${agentId}: ${wrong}`);
    if (this.#sessions.size >= SESSIONS_MAX && !this.#sessions.has(agentId))
      throw new ServiceError('resource-exhausted', `the relay has as many agents as it takes (${SESSIONS_MAX})`);
    const { spool, figures, uplink } = this.#parts;
    const session: RelayedSession = new RelayedSession(hello, sink, uplink, {
      publicKey: () => spool.publicKey,
      isExpected: (key) => spool.publicKey === undefined || equalBytes(spool.publicKey, key),
      assigned: (id, { task, round, deadlineInMs }) =>
        this.#roundOf(task, Number(round)).invited(id, Number(deadlineInMs)),
      failed: (id, task, round) => this.#find(task, round)?.out(id),
      roundOver: ({ task, round }) => this.#find(task, Number(round))?.out(agentId),
      receipt: (receipt) => this.#ended(receipt),
      wanted: (updateId) => this.#all().some((round) => round.wanted(updateId)),
      offered: (updates) => this.#offered(agentId, updates),
      lost: (id) => this.#doubt((of) => of === id),
      closed: () => this.#left(session),
    });
    this.#sessions.get(agentId)?.close('a newer session of this agent took over');
    this.#sessions.set(agentId, session);
    figures.agents = this.#sessions.size;
    session.begin();
    return session;
  }

  async updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    if (this.#all().some((round) => round.has(updateId)))
      return create(GetUpdateStatusResponseSchema, { accepted: true });
    const offset = BigInt(this.#uploads.offset(hex(updateId)));
    if (!this.#parts.uplink.isUp) return create(GetUpdateStatusResponseSchema, { offset });
    // Bytes that the coordinator has of it came another way.
    return { ...(await this.#parts.uplink.updateStatus(updateId)), offset };
  }

  async submitChunk(
    agentId: string,
    header: UpdateHeader,
    offset: number,
    data: Uint8Array,
  ): Promise<SubmitUpdateResponse> {
    if (header.agentId !== agentId)
      throw new ServiceError('invalid', `agent ${agentId} sent an update in the name of another`);
    // Damaged on its way, perhaps: the agent begins again.
    if (!ownsId(agentId, header) || !isWhole(header)) return create(SubmitUpdateResponseSchema, {});
    const known = this.#find(header.task, Number(header.round));
    if (known?.has(header.updateId) === true) return taken(header);
    const { uplink } = this.#parts;
    const isExpected = known?.isInvited(agentId) === true ? known.expects(header) : false;
    if (isExpected === false || (isExpected === undefined && offset === 0 && uplink.isUp)) {
      // Whether it was invited, and may be of that size, the coordinator knows: no bytes are taken before.
      const response = await uplink.ask(header).catch((error: unknown) => {
        // The uplink went this moment: of who was invited, what would be kept while it is away is kept.
        if (isExpected === undefined && error instanceof ServiceError && error.code === 'unavailable') return undefined;
        throw error;
      });
      if (response?.accepted === true || response?.receipt !== undefined) {
        if (!response.accepted) known?.out(agentId);
        return response;
      }
      this.#roundOf(header.task, Number(header.round)).foundInvited(agentId);
    }
    const round = this.#roundOf(header.task, Number(header.round));
    const received = this.#uploads.receive(agentId, hex(header.updateId), Number(header.payloadSize), offset, data);
    if (received.payload === undefined) {
      return create(SubmitUpdateResponseSchema, { offset: BigInt(received.offset) });
    }
    if (refusalOfBytes(header, received.payload) !== undefined) return create(SubmitUpdateResponseSchema, {});
    const outcome = await round.take(header, received.payload).catch((error: unknown) => {
      // For want of room here it goes up at once.
      if (error instanceof ServiceError && error.code === 'resource-exhausted' && uplink.isUp) return undefined;
      throw error;
    });
    if (outcome === 'taken') return taken(header);
    // What is wrong with it is the coordinator's to say, in a receipt that it signs.
    const { figures } = this.#parts;
    const response = await uplink.submit(header, received.payload);
    figures.bytesUp += received.payload.length;
    if (response.accepted) figures.single++;
    // The others need not wait for it.
    if (response.accepted || response.receipt !== undefined) round.out(agentId);
    return response;
  }

  async readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    const part = await this.#parts.blobs.read(digest, offset, lengthMax);
    this.#parts.figures.blobBytesServed += part.data.length;
    return part;
  }

  /** What goes over the links of a site is in the relay's own figures. */
  addBytes(): void {}

  addUndecodable(): void {
    this.#parts.figures.undecodable++;
  }

  /** Sends what is here and ends the sessions; what did not get through goes up after the next start. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    for (const stop of this.#stops) stop();
    const sent = Promise.allSettled(this.#all().map((round) => round.flush()));
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([sent, new Promise((resolve) => (timer = setTimeout(resolve, DRAIN_MS)))]);
    clearTimeout(timer);
    for (const session of [...this.#sessions.values()]) session.close('the relay is stopping');
  }

  #all(): SiteRound[] {
    return [...this.#rounds.values()].flat();
  }

  #find(task: string, round: number): SiteRound | undefined {
    return this.#rounds.get(task)?.find((one) => one.round === round);
  }

  #roundOf(task: string, round: number): SiteRound {
    const known = this.#find(task, round);
    if (known !== undefined) return known;
    const made = new SiteRound(task, round, this.#world);
    const all = [...(this.#rounds.get(task) ?? []), made].sort((a, b) => a.round - b.round);
    const empty = all.filter((one) => one.size === 0 && one !== made);
    const gone = new Set(empty.slice(0, Math.max(0, empty.length - ROUNDS_KEPT)));
    this.#rounds.set(
      task,
      all.filter((one) => !gone.has(one)),
    );
    return made;
  }

  #ended({ receipt }: SignedReceipt): void {
    const { updateId, task, round } = fromBinary(ReceiptSchema, receipt);
    this.#find(task, Number(round))?.forget(updateId);
  }

  /** What is kept here and not above is no question to the coordinator; and while that is away, the relay asks for updates itself. */
  #offered(agentId: string, updates: readonly OfferedUpdate[]): { ask: OfferedUpdate[]; want: OfferedUpdate[] } {
    const ask: OfferedUpdate[] = [];
    const want: OfferedUpdate[] = [];
    for (const offered of updates) {
      const round = this.#find(offered.task, Number(offered.round));
      const isHere = round?.has(offered.updateId) === true;
      if (isHere ? round.isAbove(offered.updateId) : this.#parts.uplink.isUp) ask.push(offered);
      else if (!isHere && round?.isInvited(agentId) === true) want.push(offered);
    }
    return { ask, want };
  }

  #left(session: RelayedSession): void {
    if (this.#sessions.get(session.agentId) !== session) return;
    this.#sessions.delete(session.agentId);
    this.#parts.figures.agents = this.#sessions.size;
  }

  #doubt(of: (agentId: string) => boolean): void {
    for (const round of this.#all()) round.doubt(of);
  }

  #lookAtAll(): void {
    for (const round of this.#all()) {
      round.look().catch((error: unknown) => {
        if (error instanceof ServiceError) return;
        this.#parts.log(`${round.task}: round ${round.round}: ${(error as Error).message}`);
      });
    }
  }
}

const taken = ({ payloadSize }: UpdateHeader): SubmitUpdateResponse =>
  create(SubmitUpdateResponseSchema, { offset: payloadSize, accepted: true });
