import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import {
  constant,
  GetUpdateStatusResponseSchema,
  isName,
  LABELS_MAX,
  OFFER_UPDATES_MAX,
  RefusedUpdateSchema,
  SessionResponseSchema,
  SubmitPartResponseSchema,
  SubmitUpdateResponseSchema,
  type GetUpdateStatusResponse,
  type Hello,
  type OfferedUpdate,
  type PartHeader,
  type RefusedUpdate,
  type SessionRequest,
  type SessionResponse,
  type SubmitPartResponse,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { returnAfterMs } from '../return-time.ts';
import { ServiceError, type AgentSession, type AgentSink } from '../service.ts';
import type { ReceiptRecord } from '../store/store.ts';
import type { Inquiries } from '../variants/inquiries.ts';
import { Dismissals } from './dismissals.ts';
import type { Fleet } from './fleet.ts';
import type { Folding, Part } from './parts.ts';
import { isCounted, receiptToWire } from './receipts.ts';
import {
  fromHex,
  hex,
  isWhole,
  ownsId,
  receiptMessage,
  type Offered,
  type Submission,
  type TaskWork,
} from './task-work.ts';
import { Uploads } from './uploads.ts';

/** The answer to a heartbeat. */
export const ALIVE: SessionResponse = constant(
  SessionResponseSchema,
  create(SessionResponseSchema, { message: { case: 'alive', value: {} } }),
);

const SESSIONS_MAX = 20_000;
/** How often agents show that they are there. */
const HEARTBEAT_MS = 5_000;

/** Characters of the value of a label, and of what an agent says of its device. */
const TEXT_MAX = 64;

/** What an agent says of itself that it may not, in words. */
export function wrongWith({ capabilities, conditions, labels }: Hello): string | undefined {
  const all = Object.entries(labels);
  if (all.length > LABELS_MAX) return `it may have up to ${LABELS_MAX} labels`;
  const wrong = all.find(([label, value]) => !isName(label) || value.length > TEXT_MAX);
  if (wrong !== undefined)
    return `label "${wrong[0].slice(0, 80)}" must be a name, with up to ${TEXT_MAX} characters as its value`;
  const { engine = '', platform = '' } = capabilities ?? {};
  if (engine.length > TEXT_MAX || platform.length > TEXT_MAX)
    return `engine and platform are up to ${TEXT_MAX} characters`;
  return wrongConditions(conditions);
}

const wrongConditions = (conditions: readonly string[]): string | undefined =>
  conditions.length <= LABELS_MAX && conditions.every(isName)
    ? undefined
    : `its conditions must be up to ${LABELS_MAX} names`;

/** What the agents of a coordinator work with. */
export interface SessionWorld {
  signer: Signer;
  fleet: Fleet;
  /** Folder for what the disk keeps while a round collects. */
  spoolDir: string;
  nowMs(): number;
  log(line: string): void;
  tasks(): Iterable<TaskWork>;
  task(name: string): TaskWork | undefined;
  receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined>;
  /** The end of an update whose task is not there any more. */
  ofNoTask(offered: OfferedUpdate): Promise<Offered>;
  /** Agents that may be there at once; more are told when to come back. */
  sessionsMax?: number;
  /** Where those are heard who are asked of versions on their data; only the coordinator that leads asks. */
  inquiries?: Pick<Inquiries, 'agentReady' | 'receive'>;
  /** Why uploads are refused for now, in words; undefined where they are not. */
  refusesUploads(): string | undefined;
}

/** The agents that are connected to this coordinator: their sessions, offers and uploads, whoever leads their tasks. */
export class AgentSessions {
  readonly #world: SessionWorld;
  readonly #uploads: Uploads;
  readonly #dismissals: Dismissals;

  constructor(world: SessionWorld) {
    this.#world = world;
    this.#uploads = new Uploads(world.nowMs, join(world.spoolDir, 'uploads'));
    this.#dismissals = new Dismissals(world.fleet, world.tasks);
  }

  /** Agents that were sent away because no task needed them, since the start. */
  get sentAway(): number {
    return this.#dismissals.count;
  }

  /** Looks who is free and is not needed. */
  tick(): void {
    this.#dismissals.look(this.#world.nowMs());
  }

  /** Begins an agent's session. */
  connect(hello: Hello, sink: AgentSink): AgentSession {
    const { fleet, signer, nowMs } = this.#world;
    const { agentId } = hello;
    if (!isName(agentId))
      throw new ServiceError('invalid', `agent id "${agentId.slice(0, 80)}" may have letters, digits, - and _ only`);
    const wrong = wrongWith(hello);
    if (wrong !== undefined) throw new ServiceError('invalid', `agent ${agentId}: ${wrong}`);
    const { sessionsMax = SESSIONS_MAX } = this.#world;
    if (fleet.online >= sessionsMax && !fleet.hasSession(agentId)) {
      sink.close(`the coordinator has as many agents as it takes (${sessionsMax})`, returnAfterMs(sessionsMax));
      return { receive: () => {}, closed: () => {} };
    }
    fleet.join(hello, sink, nowMs());
    const value = { publicKey: signer.publicKey, heartbeatMs: HEARTBEAT_MS, answersHeartbeats: true };
    sink.send(create(SessionResponseSchema, { message: { case: 'welcome', value } }));
    this.#forTasks((task) => task.agentBack(agentId));
    const closed = (): void => {
      if (!fleet.isCurrent(agentId, sink)) return;
      fleet.leave(agentId);
      this.#forTasks((task) => task.agentAway(agentId));
    };
    return {
      receive: (request) => {
        if (fleet.isCurrent(agentId, sink)) this.#receive(agentId, request, closed);
      },
      closed,
    };
  }

  #receive(agentId: string, { message }: SessionRequest, closed: () => void): void {
    const { fleet, nowMs, log } = this.#world;
    fleet.seen(agentId, nowMs());
    switch (message.case) {
      case 'ready':
        fleet.setReady(agentId, true, nowMs());
        this.#world.inquiries?.agentReady(agentId);
        return this.#forTasks((task) => (task.isRunning ? task.agentReady(agentId) : Promise.resolve()));
      case 'conditions': {
        const { holding } = message.value;
        if (wrongConditions(holding) !== undefined) return log(`${agentId} names conditions that are none`);
        fleet.setConditions(agentId, holding);
        return this.#forTasks((task) => (task.isRunning ? task.agentReady(agentId) : Promise.resolve()));
      }
      case 'offer':
        for (const offered of message.value.updates.slice(0, OFFER_UPDATES_MAX))
          this.#answerOffer(agentId, offered).catch((error: unknown) => this.#unanswered(agentId, error));
        return;
      case 'failure': {
        const { task, round, reason } = message.value;
        log(`${task}: ${agentId} failed in round ${round}: ${reason.slice(0, 200)}`);
        this.#world
          .task(task)
          ?.agentOut(agentId, Number(round))
          .catch(() => {});
        return;
      }
      case 'calibrationReport':
      case 'measurementReport':
        return this.#world.inquiries?.receive(agentId, message);
      case 'goodbye':
        return closed();
      case 'heartbeat':
        return fleet.send(agentId, ALIVE);
      case 'hello':
      case undefined:
        return;
    }
  }

  /** A receipt where the update has ended, a wish for it where it is still missing, and an end where its time is over. */
  async #answerOffer(agentId: string, offered: OfferedUpdate): Promise<void> {
    const { fleet, signer, log } = this.#world;
    const { updateId, task } = offered;
    if (!ownsId(agentId, offered)) return log(`${agentId} offers an update that is not its own`);
    const answer = (await this.#world.task(task)?.offered(agentId, offered)) ?? (await this.#world.ofNoTask(offered));
    if (answer === 'held') return;
    if (answer !== 'wanted') return fleet.send(agentId, receiptMessage(signer, answer.ended));
    const wanted = { case: 'wanted', value: { updateId } } as const;
    fleet.send(agentId, create(SessionResponseSchema, { message: wanted }));
  }

  async updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    const known = await this.#world.receipt(updateId);
    const accepted = [...this.#world.tasks()].some((task) => task.holds(updateId));
    return create(GetUpdateStatusResponseSchema, {
      offset: BigInt(this.#uploads.offset(hex(updateId))),
      accepted,
      ...(known === undefined ? {} : { receipt: receiptToWire(this.#world.signer, known) }),
    });
  }

  async submitChunk(
    agentId: string,
    header: UpdateHeader,
    offset: number,
    data: Uint8Array,
  ): Promise<SubmitUpdateResponse> {
    if (header.agentId !== agentId)
      throw new ServiceError('invalid', `agent ${agentId} sent an update in the name of another`);
    const reason = this.#world.refusesUploads();
    if (reason !== undefined) throw new ServiceError('resource-exhausted', reason);
    const task = this.#world.task(header.task);
    if (task === undefined) throw new ServiceError('not-found', `there is no task "${header.task.slice(0, 80)}"`);
    if (!ownsId(agentId, header)) return this.#answer(header, await task.refuse(header, 'wrong-id'));
    if (!isWhole(header)) return this.#answer(header, await task.refuse(header, 'digest-mismatch'));
    const known = await this.#world.receipt(header.updateId);
    if (known !== undefined) {
      await task.refuse(header, 'duplicate');
      return this.#submitted(header, isCounted(known), known);
    }
    const early = task.refusalOfHeader(header);
    if (early !== undefined) return this.#answer(header, await task.refuse(header, early));
    const size = Number(header.payloadSize);
    const received = this.#uploads.receive(agentId, hex(header.updateId), size, offset, data);
    if (received.payload === undefined) {
      return create(SubmitUpdateResponseSchema, { offset: BigInt(received.offset) });
    }
    return this.#answer(header, await task.submit(header, received.payload));
  }

  folding(task: string, round: number): Folding | undefined {
    return this.#world.task(task)?.folding(round);
  }

  /** Takes the sum of several updates, or says which of them keep it from being taken. Throws ServiceError where it is none. */
  async submitPart({ task: name, updates }: PartHeader, part: Part): Promise<SubmitPartResponse> {
    const reason = this.#world.refusesUploads();
    if (reason !== undefined) throw new ServiceError('resource-exhausted', reason);
    const task = this.#world.task(name);
    if (task === undefined) throw new ServiceError('not-found', `there is no task "${name.slice(0, 80)}"`);
    if (part.updates.length !== updates || new Set(part.updates.map(({ agentId }) => agentId)).size !== updates)
      throw new ServiceError('invalid', 'a part has one update of each of its agents, and as many as it says');
    const foreign = part.updates.find((header) => header.task !== name || !ownsId(header.agentId, header));
    if (foreign !== undefined)
      throw new ServiceError('invalid', `a part has an update that is none of ${foreign.agentId.slice(0, 80)}`);
    const damaged = part.updates.find((header) => !isWhole(header));
    if (damaged !== undefined)
      throw new ServiceError('invalid', `the header of the update of ${damaged.agentId} is damaged`);
    const refusals = await task.submitPart(part);
    const refused = [...refusals].map(([id, submission]) => this.#refused(fromHex(id), submission));
    return create(SubmitPartResponseSchema, { accepted: refused.length === 0, refused });
  }

  #refused(updateId: Uint8Array, submission: Submission): RefusedUpdate {
    const { signer } = this.#world;
    if ('accepted' in submission || ('refusal' in submission && submission.refusal === 'duplicate'))
      return create(RefusedUpdateSchema, { updateId, held: true });
    const receipt = 'ended' in submission ? submission.ended : submission.receipt;
    return create(RefusedUpdateSchema, {
      updateId,
      ...(receipt === undefined ? {} : { receipt: receiptToWire(signer, receipt) }),
    });
  }

  addBytes(direction: 'up' | 'down', name: string | undefined, bytes: number): void {
    for (const task of this.#world.tasks()) {
      if (name === undefined ? task.isRunning : task.task === name) task.addBytes(direction, bytes);
    }
  }

  #answer(header: UpdateHeader, submission: Submission): SubmitUpdateResponse {
    if ('ended' in submission) return this.#submitted(header, isCounted(submission.ended), submission.ended);
    if ('accepted' in submission || submission.refusal === 'duplicate') return this.#submitted(header, true);
    // Damaged on the way, perhaps: without a receipt the agent begins again.
    if (submission.receipt === undefined) return create(SubmitUpdateResponseSchema, {});
    return this.#submitted(header, false, submission.receipt);
  }

  #submitted(header: UpdateHeader, accepted: boolean, receipt?: ReceiptRecord): SubmitUpdateResponse {
    const signed = receipt === undefined ? {} : { receipt: receiptToWire(this.#world.signer, receipt) };
    return create(SubmitUpdateResponseSchema, { offset: header.payloadSize, accepted, ...signed });
  }

  /** What went wrong was told by the task, which went back to what the disk has. */
  #forTasks(work: (task: TaskWork) => Promise<void>): void {
    for (const task of this.#world.tasks()) work(task).catch(() => {});
  }

  /** The agent offers again when it is reminded. */
  #unanswered(agentId: string, error: unknown): void {
    this.#world.log(`an offer of ${agentId} is not answered: ${(error as Error).message}`);
  }
}
