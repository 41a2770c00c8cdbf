import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { encodeUpdate, logistic, seeded, writeModel, type GridSpec, type UpdateFormat } from '@commonweight/core';
import {
  formatToWire,
  headerDigest,
  HelloSchema,
  ReceiptSchema,
  SessionRequestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type SessionResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { AgentGate, AgentSession, CoordinatorService } from '../../coordinator/src/service.ts';

export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest());
/** Parameters of the model of these tests: 12 inputs, 3 outputs. */
export const LENGTH = 12 * 3 + 3;
/** A task over it, for three agents. */
export const config = {
  model: 'flowers',
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 },
  cohort: { min: 3, max: 3 },
  rounds: 2,
  seed: 5,
};

/** Imports the model, makes the task and starts it. */
export async function startTraining(service: CoordinatorService, changes: object = {}): Promise<void> {
  await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  await service.createTask('train', JSON.stringify({ ...config, ...changes }));
  await service.startTask('train');
}

/** An agent in this process: it keeps what it was told. */
export class TestAgent {
  readonly messages: SessionResponse[] = [];
  readonly id: string;
  readonly #session: AgentSession;
  readonly #service: AgentGate;

  /** `hello`: what it says of itself besides. */
  constructor(service: AgentGate, id: string, hello: MessageInitShape<typeof HelloSchema> = {}) {
    this.id = id;
    this.#service = service;
    const sink = { send: (message: SessionResponse) => this.messages.push(message), close: () => {} };
    this.#session = service.connectAgent(create(HelloSchema, { ...hello, agentId: id, sessionId: id }), sink);
  }

  say(message: Parameters<typeof create<typeof SessionRequestSchema>>[1]): void {
    this.#session.receive(create(SessionRequestSchema, message));
  }

  ready(): void {
    this.say({ message: { case: 'ready', value: {} } });
  }

  close(): void {
    this.#session.closed();
  }

  assignments(): Assignment[] {
    return this.messages.flatMap(({ message }) => (message.case === 'assignment' ? [message.value] : []));
  }

  receipts(): { round: bigint; outcome: unknown }[] {
    return this.messages.flatMap(({ message }) =>
      message.case === 'receipt' ? [fromBinary(ReceiptSchema, message.value.receipt)] : [],
    );
  }

  submit({ header, payload }: { header: UpdateHeader; payload: Uint8Array }) {
    return this.#service.submitChunk(this.id, header, 0, payload);
  }
}

/** A header with the digest that belongs to it. */
export const sealed = (header: UpdateHeader): UpdateHeader => ({
  ...header,
  headerDigest: headerDigest(header, sha256),
});

let draws = 0;

/** Share of the values that an update sends here, where its encoding sends the largest alone. */
export const TOP_K = 0.25;

/** The update that an agent makes; with changes it is another one each time. */
export function updateOf(
  agentId: string,
  grid: GridSpec,
  changes: Partial<Omit<UpdateHeader, '$typeName' | '$unknown'>> & { payload?: Uint8Array } = {},
  format: UpdateFormat = { encoding: 'mxint8', topK: 1 },
) {
  const random = seeded(Object.keys(changes).length === 0 ? agentId : `${agentId} ${draws++}`);
  const values = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.1);
  const { payload = encodeUpdate(values, format, grid, random), ...rest } = changes;
  const payloadDigest = sha256(payload);
  const [round, baseVersion] = [Number(changes.round ?? 1n), Number(changes.baseVersion ?? 1n)];
  const id = updateId({ agentId, task: 'train', round, baseVersion, payloadDigest }, sha256);
  const header = create(UpdateHeaderSchema, {
    updateId: id,
    agentId,
    task: 'train',
    round: BigInt(round),
    baseVersion: BigInt(baseVersion),
    encoding: formatToWire(format).encoding,
    weight: 10n,
    payloadDigest,
    payloadSize: BigInt(payload.length),
    ...rest,
  });
  return { header: sealed(header), payload };
}

/** The same update, compressed. */
export function compressed({ header, payload }: ReturnType<typeof updateOf>): ReturnType<typeof updateOf> {
  const smaller = new Uint8Array(zstdCompressSync(payload));
  const { agentId, task } = header;
  const identity = { agentId, task, round: Number(header.round), baseVersion: Number(header.baseVersion) };
  const payloadDigest = sha256(smaller);
  const changed = {
    updateId: updateId({ ...identity, payloadDigest }, sha256),
    payloadDigest,
    payloadSize: BigInt(smaller.length),
    rawSize: BigInt(payload.length),
  };
  return { header: sealed({ ...header, ...changed }), payload: smaller };
}

export const offerOf = ({ updateId, task, round, baseVersion, payloadDigest }: UpdateHeader) => ({
  updateId,
  task,
  round,
  baseVersion,
  payloadDigest,
});
