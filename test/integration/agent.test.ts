import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { openCoordinator, type CoordinatorService } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { SignedManifestSchema, type Assignment, type SessionResponse } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { serveGrpc, type Listening } from '../../coordinator/src/edges/grpc/server.ts';
import { freePort } from '../support/free-port.ts';
import { temporaryFolder, until } from '../support/processes.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const TASK = 'train';
const config = {
  model: 'digits',
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 32 },
  cohort: { min: 1, max: 1 },
  rounds: 0,
};

/** What stands between an agent and the coordinator: every assignment passes through it, and every part of a blob. */
interface Tampering {
  assignment?(value: Assignment): Assignment;
  blob?(data: Uint8Array): Uint8Array;
}

/** A real coordinator on a port that stays, with somebody in between who may be told to tamper. */
class Site {
  readonly folder = temporaryFolder('agent');
  readonly events: AgentEvent[] = [];
  tampering: Tampering = {};
  service: CoordinatorService | undefined;
  #port = 0;
  #edge: Listening | undefined;

  async start(): Promise<void> {
    this.#port ||= await freePort();
    const service = await openCoordinator({ dataDir: join(this.folder, 'coordinator') });
    this.service = service;
    const between: CoordinatorService = Object.create(service, {
      connectAgent: {
        value: ((hello, sink) => {
          const send = (response: SessionResponse): void => {
            const { message } = response;
            const tamper = this.tampering.assignment;
            if (message.case === 'assignment' && tamper !== undefined) {
              sink.send({ ...response, message: { case: 'assignment', value: tamper(message.value) } });
            } else sink.send(response);
          };
          return service.connectAgent(hello, { send, close: (reason) => sink.close(reason) });
        }) satisfies CoordinatorService['connectAgent'],
      },
      readBlob: {
        value: (async (digest, offset, length) => {
          const part = await service.readBlob(digest, offset, length);
          return { ...part, data: this.tampering.blob?.(part.data) ?? part.data };
        }) satisfies CoordinatorService['readBlob'],
      },
      ...bound(service),
    }) as CoordinatorService;
    this.#edge = await serveGrpc(between, { host: '127.0.0.1', port: this.#port });
  }

  async stop(): Promise<void> {
    await this.#edge?.close();
    await this.service?.close();
    this.service = undefined;
  }

  /** Runs an agent until the returned function is called. */
  agent(): () => Promise<void> {
    const stop = new AbortController();
    const running = runAgent({
      coordinator: `grpc://127.0.0.1:${this.#port}`,
      data: 'mnist?partition=0/40&seed=1',
      agentId: 'a0',
      dataDir: join(this.folder, 'a0'),
      signal: stop.signal,
      onEvent: (event) => this.events.push(event),
    });
    const end = async (): Promise<void> => {
      stop.abort();
      await running;
    };
    closers.push(end);
    return end;
  }

  receipts(): number {
    return this.events.filter(({ type }) => type === 'receipt').length;
  }

  failures(): string[] {
    return this.events.flatMap((event) => (event.type === 'failure' ? [event.reason] : []));
  }

  trained(): number {
    return this.events.filter(({ type }) => type === 'trained').length;
  }
}

/** The other methods, which need their own `this`. */
function bound(service: CoordinatorService): PropertyDescriptorMap {
  const names = [
    'updateStatus',
    'submitChunk',
    'getModel',
    'watchModel',
    'watchReleases',
    'importModel',
    'listModels',
    'listVersions',
    'createTask',
    'startTask',
    'pauseTask',
    'getTask',
    'listTasks',
    'watchTask',
    'listAgents',
    'addBytes',
    'close',
  ] as const;
  return Object.fromEntries(
    names.map((name) => [name, { value: (service[name] as (...args: never[]) => unknown).bind(service) }]),
  );
}

async function site(tampering: Tampering = {}, changes: object = {}, hidden = [8]): Promise<Site> {
  const made = new Site();
  made.tampering = tampering;
  await made.start();
  closers.push(() => made.stop());
  await made.service?.importModel('digits', writeModel(mlp({ inputs: 784, hidden, outputs: 10, seed: 1 })));
  await made.service?.createTask(TASK, JSON.stringify({ ...config, ...changes }));
  await made.service?.startTask(TASK);
  return made;
}

describe('an agent', () => {
  test('takes part round after round, also when the coordinator and itself are started again', async () => {
    const here = await site();
    const end = here.agent();
    await until('two receipts', 30_000, () => here.receipts() >= 2);
    await here.stop();
    await until('the agent to notice', 10_000, () =>
      here.events.some(({ type }) => type === 'disconnected' || type === 'away'),
    );
    await here.start();
    const before = here.receipts();
    await until('a receipt from the new coordinator', 30_000, () => here.receipts() > before);
    await end();
    const ended = here.receipts();
    here.agent();
    await until('a receipt of the new agent', 30_000, () => here.receipts() > ended);
    expect(here.events.filter(({ type }) => type === 'rejected')).toEqual([]);
  });

  test('trains on nothing that the pinned key did not sign', async () => {
    const here = await site({
      assignment: (value) => {
        const { manifest, signature, publicKey } = value.base ?? create(SignedManifestSchema);
        const flipped = Uint8Array.from(signature);
        flipped[7] = (flipped[7] ?? 0) ^ 1;
        return { ...value, base: create(SignedManifestSchema, { manifest, signature: flipped, publicKey }) };
      },
    });
    here.agent();
    await until('a failure', 30_000, () => here.failures().length > 0);
    expect(here.failures()[0]).toMatch(/sign/i);
    expect(here.trained()).toBe(0);
  });

  test('refuses a base older than one it trained on, also after it was started again', async () => {
    const here = await site();
    let first: Assignment | undefined;
    here.tampering.assignment = (value) => (first ??= value);
    const end = here.agent();
    await until('a first receipt', 30_000, () => here.receipts() >= 1);
    here.tampering = {};
    await until('a second receipt', 30_000, () => here.receipts() >= 2);
    await end();
    const trained = here.trained();
    here.tampering.assignment = (value) => ({ ...value, ...(first === undefined ? {} : { base: first.base }) });
    here.agent();
    await until('a failure', 30_000, () => here.failures().length > 0);
    expect(here.failures()[0]).toMatch(/version 1 of 'digits' was offered after version \d+/);
    expect(here.trained()).toBe(trained);
  });

  test('fetches a version whole once, and those after it as deltas, also when it was started again', async () => {
    let bytes = 0;
    const count = (data: Uint8Array): Uint8Array => {
      bytes += data.length;
      return data;
    };
    const here = await site({ blob: count }, { downlink: 'mxint4' }, [100]);
    const weights = 4 * (784 * 100 + 100 + 1000 + 10);
    const end = here.agent();
    await until('five receipts', 60_000, () => here.receipts() >= 5);
    expect(bytes).toBeGreaterThan(weights);
    expect(bytes).toBeLessThan(1.5 * weights);
    await end();
    const before = here.receipts();
    bytes = 0;
    here.agent();
    await until('five more', 60_000, () => here.receipts() >= before + 5);
    expect(bytes).toBeLessThan(weights / 2);
    expect(here.failures()).toEqual([]);
    expect(here.events.filter(({ type }) => type === 'warning')).toEqual([]);
  });

  test('fetches a version whole where the bytes of its delta are not what they should be', async () => {
    const here = await site({}, { downlink: 'mxint4' }, [100]);
    const weights = 4 * (784 * 100 + 100 + 1000 + 10);
    here.agent();
    await until('a receipt', 60_000, () => here.receipts() >= 1);
    // What is that small and no graph is a delta.
    const magic = [0x63, 0x77, 0x73, 0x74];
    let harmed = 0;
    here.tampering.blob = (data) => {
      if (!magic.every((byte, i) => data[i] === byte) || data.length >= weights) return data;
      harmed++;
      return new Uint8Array(data.length);
    };
    const before = here.receipts();
    await until('two more receipts', 90_000, () => here.receipts() >= before + 2);
    expect(harmed).toBeGreaterThan(0);
    const warnings = here.events.flatMap((event) => (event.type === 'warning' ? [event.text] : []));
    expect(warnings.some((text) => /is fetched whole, for its deltas are no use/.test(text))).toBe(true);
    expect(here.failures()).toEqual([]);
  });

  test('does not train on damaged weights, and fetches them again', async () => {
    const here = await site();
    let damaged = 0;
    here.tampering.assignment = (value) => ({ ...value, weightsInline: new Uint8Array() });
    here.tampering.blob = (data) => {
      if (damaged >= 2) return data;
      damaged += 1;
      const flipped = Uint8Array.from(data);
      flipped[data.length >> 1] = (flipped[data.length >> 1] ?? 0) ^ 1;
      return flipped;
    };
    here.agent();
    await until('a receipt', 30_000, () => here.receipts() >= 1);
    expect(damaged).toBe(2);
    expect(here.failures()).toEqual([]);
  });
});
