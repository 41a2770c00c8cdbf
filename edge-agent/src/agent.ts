import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import {
  CodecError,
  ConfigError,
  invariant,
  layoutOf,
  parsePlan,
  readModel,
  weightsFromBytes,
} from '@commonweight/core';
import {
  asError,
  Backoff,
  BlobCache,
  downloadBlob,
  KeyPin,
  sha256,
  sleep,
  TransportError,
  TrustError,
  verifyEd25519,
} from '@commonweight/client-sdk';
import {
  encodingFromWire,
  equalBytes,
  HelloSchema,
  isName,
  OFFER_UPDATES_MAX,
  openManifest,
  openReceipt,
  Reason,
  type Artifact,
  type Assignment,
  type Manifest,
  type SessionResponse,
  type SignedReceipt,
  type Welcome,
} from '@commonweight/proto';
import type { AgentEvent } from './events.ts';
import { openAgentLink, type AgentLink, type OpenSession } from './link/agent-link.ts';
import { Outbox, type OutboxEntry } from './outbox/outbox.ts';
import {
  firstState,
  step,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
  type Work,
} from './session/session.ts';
import { Trainer } from './training/trainer.ts';
import { refuseOlder } from './newest-base.ts';
import { makeUpdate, readResidual, writeResidual } from './update.ts';

export interface AgentOptions {
  /** `grpc://127.0.0.1:PORT` or `nats://127.0.0.1:PORT`. */
  coordinator: string;
  /** Data specification, see loadDataset. */
  data: string;
  agentId: string;
  /** Folder of the outbox, the cache and the coordinator's key. */
  dataDir: string;
  /** Serve only this task; any without it. */
  task?: string;
  /** Of the training; 1 by default. */
  threads?: number;
  /** Ends the agent. */
  signal: AbortSignal;
  onEvent?: (event: AgentEvent) => void;
}

const SOFTWARE = '0.1.0';
/** A session whose Welcome does not come within this is begun again. */
const WELCOME_MS = 5_000;
/** How often an agent says again what may have been lost. */
const REMIND_MS = 30_000;
/** Tries of one upload before the next session offers the update again. */
const UPLOAD_TRIES = 5;
/** Versions whose graph and weights stay in the cache. */
const DIGESTS_KEPT = 4;

/** Runs an agent until its signal aborts. Throws DataError or ConfigError where it cannot begin; else it goes on for ever. */
export async function runAgent(options: AgentOptions): Promise<void> {
  if (!isName(options.agentId)) {
    throw new ConfigError(`agent id "${options.agentId}" may have up to 64 letters, digits, - and _ only`, 'id');
  }
  const link = openAgentLink(options.coordinator, options.agentId);
  const tell = options.onEvent ?? (() => {});
  try {
    const warn = (path: string): void =>
      tell({ type: 'warning', text: `an update in the outbox was damaged and set aside as ${path}` });
    const outbox = await Outbox.open(join(options.dataDir, 'outbox'), warn);
    const others = new Set(outbox.entries().map(({ header }) => header.agentId));
    others.delete(options.agentId);
    for (const other of others) {
      tell({
        type: 'warning',
        text: `the outbox in ${options.dataDir} holds updates of agent ${other}: only that agent can send them`,
      });
    }
    const pin = await KeyPin.open(join(options.dataDir, 'coordinator.key'));
    const { trainer, examples } = await Trainer.open(options.data, options.threads ?? 1);
    tell({ type: 'data', examples });
    const agent = new Agent({ options, link, outbox, pin, trainer, examples, tell });
    try {
      await agent.run();
    } finally {
      // The link first: what still waits for an answer over it ends at once.
      await link.close();
      await trainer.close();
      await agent.idle();
    }
  } finally {
    await link.close();
  }
}

interface Parts {
  options: AgentOptions;
  link: AgentLink;
  outbox: Outbox;
  pin: KeyPin;
  trainer: Trainer;
  examples: number;
  tell(event: AgentEvent): void;
}

/** What is needed to make an update. */
type Trained = Pick<Parameters<typeof makeUpdate>[0], 'assignment' | 'baseVersion' | 'base' | 'result'>;

/** Feeds the session machine and performs what it decides. */
class Agent {
  readonly #parts: Parts;
  readonly #cache: BlobCache;
  readonly #assignments = new Map<string, Assignment>();
  readonly #working = new Set<Promise<void>>();
  /** What training brought, until it is kept or dropped. */
  readonly #trained = new Map<string, Trained>();
  /** Ids of updates that are in the outbox and were not sent yet. */
  readonly #kept = new Map<string, Uint8Array>();
  #state: SessionState = firstState;
  #session: OpenSession | undefined;
  #digests: Uint8Array[] = [];

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#cache = new BlobCache(join(parts.options.dataDir, 'blobs'));
  }

  async run(): Promise<void> {
    const { signal, coordinator } = this.#parts.options;
    const backoff = new Backoff();
    while (!signal.aborted) {
      const why = await this.#runSession(backoff);
      this.#do({ type: 'Broken' });
      if (signal.aborted) return;
      const retryMs = Math.round(backoff.nextMs());
      this.#parts.tell({ type: 'disconnected', coordinator, why, retryMs });
      await sleep(retryMs, signal);
    }
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#working);
  }

  /** One session from Hello to its end; says why it ended. */
  #runSession(backoff: Backoff): Promise<string> {
    const { options, link, examples, tell } = this.#parts;
    const { agentId, task = '', coordinator, signal } = options;
    const hello = create(HelloSchema, {
      agentId,
      sessionId: randomUUID(),
      software: SOFTWARE,
      task,
      examples: BigInt(examples),
      link: link.kind,
    });
    return new Promise((resolve) => {
      let heart: NodeJS.Timeout | undefined;
      let reminder: NodeJS.Timeout | undefined;
      const end = (why: string): void => {
        clearTimeout(unwelcome);
        clearInterval(heart);
        clearInterval(reminder);
        signal.removeEventListener('abort', leave);
        session.close();
        resolve(why);
      };
      const leave = (): void => {
        session.send({ case: 'goodbye', value: {} });
        end('the agent was stopped');
      };
      const welcomed = (welcome: Welcome): void => {
        clearTimeout(unwelcome);
        this.#parts.pin.pin(welcome.publicKey);
        heart = setInterval(() => session.send({ case: 'heartbeat', value: {} }), Math.max(500, welcome.heartbeatMs));
        reminder = setInterval(() => this.#do({ type: 'Reminded' }), REMIND_MS);
        backoff.connected();
        tell({ type: 'connected', coordinator });
        const [newest] = this.#unfinished();
        this.#do({ type: 'Welcomed', ...(newest === undefined ? {} : { kept: workOf(newest.header) }) });
      };
      const unwelcome = setTimeout(() => end(`${coordinator} does not answer`), WELCOME_MS);
      const session = link.openSession(hello, {
        onClosed: end,
        onMessage: ({ message }) => {
          try {
            if (message.case === 'welcome') welcomed(message.value);
            else this.#receive(message);
          } catch (error) {
            // A coordinator that is not the one that is trusted: nothing it says is done.
            if (!(error instanceof TrustError)) throw error;
            end(error.message);
          }
        },
      });
      this.#session = session;
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  #receive(message: SessionResponse['message']): void {
    switch (message.case) {
      case 'assignment': {
        const work = workOf(message.value);
        this.#assignments.set(keyOf(work), message.value);
        return this.#do({ type: 'Assigned', ...work });
      }
      case 'receipt':
        return this.#track(this.#end(message.value));
      case 'wanted': {
        const entry = this.#parts.outbox.get(message.value.updateId);
        if (entry !== undefined) this.#track(this.#upload(entry));
        return;
      }
      default:
        return;
    }
  }

  #do(event: SessionEvent): void {
    const { state, effects } = step(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: SessionEffect): void {
    switch (effect.type) {
      case 'Offer':
        return this.#offer();
      case 'SayReady':
        return this.#session?.send({ case: 'ready', value: {} });
      case 'Train':
        return this.#track(this.#train({ task: effect.task, round: effect.round }));
      case 'Keep':
        return this.#track(this.#keep({ task: effect.task, round: effect.round }));
      case 'Upload':
        return this.#uploadKept({ task: effect.task, round: effect.round });
      case 'Drop':
        this.#trained.delete(keyOf(effect));
        return;
      case 'ReportFailure': {
        const { task, round, reason } = effect;
        this.#parts.tell({ type: 'failure', task, round, reason });
        return this.#session?.send({ case: 'failure', value: { task, round: BigInt(round), reason } });
      }
    }
  }

  /** This agent's updates that have not ended, newest first. Another's, from a folder that two have used, are not its to send. */
  #unfinished(): OutboxEntry[] {
    const { outbox, options } = this.#parts;
    return outbox
      .entries()
      .filter(({ header }) => header.agentId === options.agentId)
      .sort((a, b) => Number(b.header.round - a.header.round))
      .slice(0, OFFER_UPDATES_MAX);
  }

  #offer(): void {
    const offered = this.#unfinished().map(({ header: { updateId, task, round, baseVersion, payloadDigest } }) => ({
      updateId,
      task,
      round,
      baseVersion,
      payloadDigest,
    }));
    if (offered.length === 0) return;
    this.#session?.send({ case: 'offer', value: { updates: offered } });
  }

  async #train(work: Work): Promise<void> {
    try {
      const assignment = this.#assignments.get(keyOf(work));
      if (assignment === undefined) throw new Error('the assignment is gone');
      this.#trained.set(keyOf(work), await this.#trainOn(assignment));
      this.#do({ type: 'Trained', ...work });
    } catch (error) {
      this.#failed(work, error);
    } finally {
      this.#assignments.delete(keyOf(work));
    }
  }

  async #trainOn(assignment: Assignment): Promise<Trained> {
    const { trainer, tell } = this.#parts;
    const work = workOf(assignment);
    const manifest = await this.#checked(assignment);
    const version = Number(manifest.version);
    tell({ type: 'assignment', ...work, version });
    const graph = await this.#blob(artifactOf(manifest, 'graph'));
    const base = await this.#weights(assignment, manifest);
    const { length } = layoutOf(readModel(graph));
    if (length !== base.length)
      throw new CodecError(`version ${version} has ${base.length} weights and a graph of ${length}`);
    const job = { graph, weights: base, plan: parsePlan(JSON.parse(assignment.planJson)), seed: assignment.seed };
    const result = await trainer.train(job, Number(assignment.deadlineInMs));
    const { loss, examples, steps, ms } = result;
    tell({ type: 'trained', ...work, loss, examples, steps, trainMs: Math.round(ms) });
    return { assignment, baseVersion: version, base, result };
  }

  /** Makes the update and puts it into the outbox: from here on no crash loses it. */
  async #keep(work: Work): Promise<void> {
    try {
      const trained = this.#trained.get(keyOf(work));
      if (trained === undefined) throw new Error('the result of the training is gone');
      const { outbox, options } = this.#parts;
      const { agentId, dataDir } = options;
      const residualPath = join(dataDir, `residual-${work.task}.f32`);
      const residual = await readResidual(residualPath, trained.base.length);
      const update = makeUpdate({ agentId, ...trained, residual });
      await outbox.put({ header: update.header, payload: update.payload });
      // After the update: a crash between the two sends the remainder twice at worst, and never loses it.
      await writeResidual(residualPath, update.residual);
      this.#kept.set(keyOf(work), update.header.updateId);
      this.#do({ type: 'Kept', ...work });
    } catch (error) {
      this.#failed(work, error);
    } finally {
      this.#trained.delete(keyOf(work));
    }
  }

  #failed(work: Work, error: unknown): void {
    if (this.#parts.options.signal.aborted) return;
    this.#do({ type: 'Failed', ...work, reason: asError(error).message.slice(0, 500) });
  }

  /** The base manifest, once its signature, its age and what is asked for were checked. */
  async #checked({ base, task, encoding, grid }: Assignment): Promise<Manifest> {
    const { key } = this.#parts.pin;
    if (base === undefined || key === undefined || grid === undefined || encodingFromWire(encoding) === undefined) {
      throw new CodecError('the assignment is incomplete: is the coordinator of a newer version?');
    }
    if (!isName(task)) throw new CodecError('the assignment has no proper task name');
    const manifest = openManifest(base, key, verifyEd25519);
    await refuseOlder(this.#parts.options.dataDir, task, manifest);
    return manifest;
  }

  /** Small weights come inside the assignment; damaged ones are fetched instead. */
  async #weights({ weightsInline }: Assignment, manifest: Manifest): Promise<Float32Array> {
    const artifact = artifactOf(manifest, 'weights');
    const isWhole = weightsInline.length > 0 && equalBytes(sha256(weightsInline), artifact.digest);
    return weightsFromBytes(isWhole ? weightsInline : await this.#blob(artifact));
  }

  async #blob({ digest, size }: Artifact): Promise<Uint8Array> {
    const cached = await this.#cache.get(digest);
    if (cached !== undefined) {
      // Used just now, so the last to go.
      this.#digests = [digest, ...this.#digests.filter((known) => !equalBytes(known, digest))];
      return cached;
    }
    const { link, options } = this.#parts;
    const read = link.readBlob.bind(link);
    const blob = await downloadBlob(read, digest, Number(size), { signal: options.signal });
    await this.#cache.put(digest, blob);
    this.#digests = [digest, ...this.#digests].slice(0, DIGESTS_KEPT);
    await this.#cache.keepOnly(this.#digests);
    return blob;
  }

  /** Sends the update that was just kept, as the outbox has it. */
  #uploadKept(work: Work): void {
    const updateId = this.#kept.get(keyOf(work));
    this.#kept.delete(keyOf(work));
    const entry = updateId && this.#parts.outbox.get(updateId);
    invariant(entry !== undefined, 'an update is kept before it is uploaded');
    this.#track(this.#upload(entry));
  }

  /** Sends an update until there is an answer; a link that stays broken leaves it to the next session. */
  async #upload({ header, payload }: OutboxEntry): Promise<void> {
    const { link, options, tell } = this.#parts;
    const work = workOf(header);
    const backoff = new Backoff({ maxMs: 5_000 });
    let from = 0;
    for (let tries = 0; tries < UPLOAD_TRIES && !options.signal.aborted; tries++) {
      try {
        if (tries > 0) from = Number((await link.updateStatus(header.updateId)).offset);
        const answer = await link.submit(header, payload, from);
        if (answer.receipt !== undefined) return await this.#end(answer.receipt);
        if (answer.accepted) {
          tell({ type: 'uploaded', ...work, bytes: payload.length, updateId: hex(header.updateId) });
          return this.#do({ type: 'UploadAccepted', ...work });
        }
      } catch (error) {
        // An answer that cannot be believed ends this try; the outbox offers the update again in the next session.
        if (!(error instanceof TransportError)) tell({ type: 'warning', text: asError(error).message });
        if (!(error instanceof TransportError) || !error.passing) break;
      }
      await sleep(backoff.nextMs(), options.signal);
    }
    this.#do({ type: 'UploadBroken', ...work });
  }

  /** A receipt ends an update: only then is it deleted. */
  async #end(signed: SignedReceipt): Promise<void> {
    const { pin, outbox, tell } = this.#parts;
    if (pin.key === undefined) return;
    const receipt = openReceipt(signed, pin.key, verifyEd25519);
    const work = workOf(receipt);
    const updateId = hex(receipt.updateId);
    const isKnown = outbox.get(receipt.updateId) !== undefined;
    await outbox.delete(receipt.updateId);
    if (isKnown && receipt.outcome.case === 'committedVersion') {
      tell({ type: 'receipt', ...work, version: Number(receipt.outcome.value), updateId });
    } else if (isKnown && receipt.outcome.case === 'rejected') {
      tell({ type: 'rejected', ...work, reason: reasonName(receipt.outcome.value), updateId });
    }
    this.#do({ type: 'Ended', ...work });
  }

  /** Keeps what runs beside the session in sight; an error that nobody handles ends the agent. */
  #track(work: Promise<void>): void {
    const tracked: Promise<void> = work
      .catch((error: unknown) => this.#parts.tell({ type: 'warning', text: asError(error).message }))
      .finally(() => this.#working.delete(tracked));
    this.#working.add(tracked);
  }
}

const workOf = ({ task, round }: { task: string; round: bigint }): Work => ({
  task,
  round: Number(round),
});
const keyOf = ({ task, round }: Work): string => `${task} ${round}`;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function artifactOf(manifest: Manifest, role: string): Artifact {
  const found = manifest.artifacts.find((artifact) => artifact.role === role);
  if (found === undefined) throw new CodecError(`version ${manifest.version} of ${manifest.model} has no ${role}`);
  return found;
}

/** 'stale-round' for Reason.STALE_ROUND. */
function reasonName(reason: Reason): string {
  const [name = 'unknown'] = Object.entries(Reason).find(([, value]) => value === reason) ?? [];
  return name.toLowerCase().replaceAll('_', '-');
}
