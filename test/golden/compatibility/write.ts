// Writes what this commit's code leaves behind. `make.ts` copies the file into an older commit and runs it there, so it uses only what all
// of them have.
import { createHash, createPrivateKey } from 'node:crypto';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, toBinary, toJson, type DescMessage, type Message } from '@bufbuild/protobuf';
import { openCoordinator } from '@commonweight/coordinator';
import { encodings, logistic, seeded, writeModel } from '@commonweight/core';
import {
  Encoding,
  gridFromWire,
  HelloSchema,
  ManifestSchema,
  ReceiptSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type SessionResponse,
} from '@commonweight/proto';
import { samples } from '../messages.ts';

type Service = Awaited<ReturnType<typeof openCoordinator>>;

/** Secret key of the first test of RFC 8032, section 7.1: known to everybody, for tests only. */
const SECRET = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
const PKCS8 = '302e020100300506032b657004220420';

const [mode = '', out = '', postgres] = process.argv.slice(2);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest());
const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 };
const tasks = {
  train: { model: 'flowers', strategy: { name: 'fedAvgM', serverMomentum: 0.5 }, plan, cohort: { min: 2, max: 2 }, seed: 5 },
  middle: { model: 'trees', strategy: { name: 'median' }, plan, cohort: { min: 2, max: 2 }, seed: 6, rounds: 1 },
};

class Agent {
  readonly heard: SessionResponse[] = [];
  readonly id: string;
  readonly #task: string;
  readonly #service: Service;

  constructor(service: Service, task: string, id: string) {
    this.#service = service;
    this.#task = task;
    this.id = id;
    const hello = create(HelloSchema, { agentId: id, sessionId: id, task, software: '0.1.0', examples: 10n, link: 'grpc' });
    const session = service.connectAgent(hello, { send: (message) => void this.heard.push(message), close: () => {} });
    session.receive(create(SessionRequestSchema, { message: { case: 'ready', value: {} }, sessionId: id }));
  }

  assignment(round: number): Assignment | undefined {
    const all = this.heard.flatMap(({ message }) => (message.case === 'assignment' ? [message.value] : []));
    return all.find((one) => Number(one.round) === round);
  }

  async update(round: number) {
    await until(`${this.id} to be invited to round ${round}`, () => this.assignment(round) !== undefined);
    return updateOf(this.#task, this.id, this.assignment(round)!);
  }

  submit({ header, payload }: ReturnType<typeof updateOf>) {
    return this.#service.submitChunk(this.id, header, 0, payload);
  }
}

/** The update that an agent makes of an assignment, the same each time. */
function updateOf(task: string, agentId: string, assignment: Assignment) {
  const grid = gridFromWire(assignment.grid!);
  const baseVersion = Number(fromBinary(ManifestSchema, assignment.base!.manifest).version);
  const random = seeded(`${task} ${agentId} ${assignment.round}`);
  const values = Float32Array.from({ length: 39 }, () => random.normal() * 0.1);
  const payload = encodings.mxint8.encode(values, grid, random);
  const payloadDigest = sha256(payload);
  const round = Number(assignment.round);
  const header = create(UpdateHeaderSchema, {
    updateId: updateId({ agentId, task, round, baseVersion, payloadDigest }, sha256),
    agentId,
    task,
    round: assignment.round,
    baseVersion: BigInt(baseVersion),
    encoding: Encoding.MXINT8,
    weight: agentId === 'a' ? 10n : 7n,
    payloadDigest,
    payloadSize: BigInt(payload.length),
    metrics: { loss: random.uniform() },
  });
  return { header, payload };
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + 20_000;
  while (!(await isSo())) {
    if (Date.now() > endMs) throw new Error(`waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const newest = async (service: Service, model: string): Promise<number> =>
  Number(fromBinary(ManifestSchema, (await service.getModel(model, 0)).manifest).version);

/** Task `middle` is finished; of `train` one version is published, and its second round has one of two updates. */
async function scenario(service: Service) {
  const heard: SessionResponse[] = [];
  const updates: { header: Uint8Array; payload: Uint8Array }[] = [];
  let rejected: Uint8Array = new Uint8Array();
  for (const [task, config] of Object.entries(tasks)) {
    await service.importModel(config.model, writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
    await service.createTask(task, JSON.stringify(config));
    await service.startTask(task);
    const agents = ['a', 'b'].map((id) => new Agent(service, task, `${id}${task === 'train' ? '' : '2'}`));
    for (const agent of agents) {
      const update = await agent.update(1);
      updates.push({ ...update, header: toBinary(UpdateHeaderSchema, update.header) });
      if (!(await agent.submit(update)).accepted) throw new Error('an update was refused');
    }
    await until(`a version of ${config.model}`, async () => (await newest(service, config.model)) === 2);
    if (task === 'train') {
      const [a, b] = await Promise.all(agents.map((agent) => agent.update(2)));
      // Of a round that is over: refused for good.
      const late = await new Agent(service, task, 'late').submit(updateOf(task, 'late', agents[0]!.assignment(1)!));
      if (late.receipt === undefined) throw new Error('a late update was not refused');
      rejected = late.receipt.receipt;
      await agents[0]!.submit(a!);
      updates.push(...[a!, b!].map((one) => ({ ...one, header: toBinary(UpdateHeaderSchema, one.header) })));
    }
    heard.push(...agents.flatMap((agent) => agent.heard));
  }
  return { heard, updates, rejected };
}

async function stateOf(service: Service) {
  const models = ['flowers', 'trees'];
  const versions = await Promise.all(models.map(async (model) => [model, await service.listVersions(model)] as const));
  const list = await service.listTasks();
  return {
    versions: Object.fromEntries(
      versions.map(([model, all]) => [
        model,
        all.map(({ manifest, signature }) => ({ manifest: hex(manifest), signature: hex(signature) })),
      ]),
    ),
    tasks: list.map(({ task, state, phase, round, version, updatesAccepted, updatesRejected, strategy, configJson }) => {
      const counts = [round, version, updatesAccepted, updatesRejected].map(Number);
      return { task, state, phase, counts, strategy, config: JSON.parse(configJson) as unknown };
    }),
  };
}

function keyIn(dataDir: string): string {
  const key = createPrivateKey({ key: Buffer.from(PKCS8 + SECRET, 'hex'), format: 'der', type: 'pkcs8' });
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(join(dataDir, 'signing-key.pem'), key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  return dataDir;
}

const message = (schema: DescMessage, one: Message) => ({ bytes: hex(toBinary(schema, one)), means: toJson(schema, one) });

/** Finishes the second round of `train`, so that what it comes to is known. */
async function finished(dataDir: string) {
  const service = await openCoordinator({ dataDir });
  const agents = ['a', 'b'].map((id) => new Agent(service, 'train', id));
  for (const agent of agents) await agent.submit(await agent.update(2));
  await until('version 3', async () => (await newest(service, 'flowers')) === 3);
  const { artifacts, totalWeight, contributionsDigest } = fromBinary(ManifestSchema, (await service.getModel('flowers', 3)).manifest);
  await service.close();
  return {
    artifacts: artifacts.map(({ role, digest }) => `${role} ${hex(digest)}`),
    totalWeight: Number(totalWeight),
    contributions: hex(contributionsDigest),
  };
}

if (mode === 'sqlite') {
  const dataDir = keyIn(join(out, 'data'));
  const service = await openCoordinator({ dataDir });
  const { heard, updates, rejected } = await scenario(service);
  const receipts = heard.flatMap(({ message: { case: kind, value } }) => (kind === 'receipt' ? [value.receipt] : []));
  const before = await stateOf(service);
  await service.close();
  cpSync(dataDir, join(out, 'finished'), { recursive: true });
  const after = await finished(join(out, 'finished'));
  const expected = {
    ...before,
    receipts: [...receipts, rejected].map(hex),
    updates: updates.map(({ header, payload }) => ({ header: hex(header), payload: hex(payload) })),
    finished: after,
  };
  writeFileSync(join(out, 'expected.json'), `${JSON.stringify(expected, undefined, 1)}\n`);
  const messages = Object.fromEntries([
    ...samples().map(({ name, schema, message: one }) => [name, { type: schema.typeName, ...message(schema, one) }]),
    ...heard.map((one, i) => [`heard ${i} ${one.message.case}`, { type: SessionResponseSchema.typeName, ...message(SessionResponseSchema, one) }]),
    ...Object.values(before.versions).flat().map(({ manifest }, i) => {
      const one = fromBinary(ManifestSchema, Buffer.from(manifest, 'hex'));
      return [`a manifest ${i}`, { type: ManifestSchema.typeName, ...message(ManifestSchema, one) }];
    }),
    ...updates.map(({ header }, i) => {
      const one = fromBinary(UpdateHeaderSchema, header);
      return [`a header ${i}`, { type: UpdateHeaderSchema.typeName, ...message(UpdateHeaderSchema, one) }];
    }),
    ...receipts.map((bytes, i) => {
      const one = fromBinary(ReceiptSchema, bytes);
      return [`a receipt ${i}`, { type: ReceiptSchema.typeName, ...message(ReceiptSchema, one) }];
    }),
  ]);
  writeFileSync(join(out, 'messages.json'), `${JSON.stringify(messages, undefined, 1)}\n`);
} else {
  const service = await openCoordinator({ dataDir: keyIn(join(out, 'data')), postgres: postgres! });
  await scenario(service);
  await service.close();
}
