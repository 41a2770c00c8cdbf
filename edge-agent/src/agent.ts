import { create } from '@bufbuild/protobuf';
import {
  CodecError,
  contractOf,
  invariant,
  joinModel,
  layoutOf,
  localMethodOf,
  packedLength,
  parsePlan,
  parseStatisticsPlan,
  readModel,
  weightsFromBytes,
} from '@commonweight/core';
import {
  asError,
  Backoff,
  downloadBlob,
  hex,
  sleep,
  TransportError,
  TrustError,
  type TrustCrypto,
  weightsByDeltas,
} from '@commonweight/client-sdk';
import {
  equalBytes,
  formatFromWire,
  gridFromWire,
  HelloSchema,
  isName,
  OFFER_UPDATES_MAX,
  openCandidate,
  openManifest,
  openReceipt,
  Reason,
  signedBytes,
  type Artifact,
  type Assignment,
  type Manifest,
  type SessionResponse,
  type SignedCandidate,
  type SignedReceipt,
  type Welcome,
} from '@commonweight/proto';
import { artifactOf } from './artifact-of.ts';
import type { Deflate } from './deflate.ts';
import { unknownDevice, type Device } from './device/device.ts';
import type { AgentDisk } from './disk.ts';
import type { AgentEvent } from './events.ts';
import type { AgentLink, OpenSession } from './link/agent-link.ts';
import { localRound, type RoundOutcome } from './local-round.ts';
import type { OutboxEntry } from './outbox/outbox.ts';
import { OwnVersions, type Willing } from './own-versions.ts';
import {
  firstState,
  step,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
  type Work,
} from './session/session.ts';
import type { EvaluationAsked, ReportJob } from './training/reports.ts';
import type { TeacherSource, Trainer } from './training/trainer.ts';
import { makeReport, makeUpdate } from './update.ts';

const SOFTWARE = '0.1.0';
/** A session whose Welcome does not come within this is begun again. */
const WELCOME_MS = 5_000;
/** Heartbeats without an answer after which a session is begun again. */
const UNANSWERED_MAX = 2;
/** How often an agent says again what may have been lost. */
const REMIND_MS = 30_000;
/** The time that a coordinator may send an agent away for. */
const RETURN_MS_MIN = 500;
const RETURN_MS_MAX = 600_000;
/** Tries of one upload before the next session offers the update again. */
const UPLOAD_TRIES = 5;
/** Graphs and weights that stay in the cache: of two versions, and of a teacher. */
const DIGESTS_KEPT = 6;

/** Who an agent is, and until when. */
export interface AgentIdentity {
  /** Where its coordinator answers, for people to read. */
  coordinator: string;
  agentId: string;
  /** Serve only this task; any without it. */
  task?: string;
  /** Closes its session where no task needs it, and comes back when the coordinator says; without it, it stays connected. */
  leavesBetweenRounds?: boolean;
  /** It has data that others are judged by: it is asked by its name, and measures with all that it has. */
  isEvaluator?: boolean;
  /** Ends the agent. */
  signal: AbortSignal;
}

/** What an agent works with. */
export interface AgentParts extends Willing {
  options: AgentIdentity;
  crypto: TrustCrypto;
  /** Undefined where the platform has no zstd. */
  deflate: Deflate | undefined;
  link: AgentLink;
  disk: AgentDisk;
  /** Without `report` it trains and does nothing else. */
  trainer: Pick<Trainer<never>, 'train'> & Partial<Pick<Trainer<never>, 'report'>>;
  device?: Device;
  examples: number;
  tell(event: AgentEvent): void;
}

/** What is needed to make an update. */
type Trained = Pick<Parameters<typeof makeUpdate>[0], 'assignment' | 'baseVersion'> & {
  outcome: RoundOutcome;
  /** Values of the update. */
  length: number;
};
/** What is needed to make a report. */
type Reported = Omit<Parameters<typeof makeReport>[0], 'agentId' | 'sha256'>;

/** Feeds the session machine and performs what it decides; nothing of it knows where link, disk and training come from. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #assignments = new Map<string, Assignment>();
  /** What ends each training that is under way. */
  readonly #trainings = new Map<string, AbortController>();
  readonly #working = new Set<Promise<void>>();
  /** What training brought, until it is kept or dropped. */
  readonly #trained = new Map<string, Trained | Reported>();
  /** Ids of updates that are in the outbox and were not sent yet. */
  readonly #kept = new Map<string, Uint8Array>();
  readonly #ownVersions: OwnVersions;
  #state: SessionState = firstState;
  #session: OpenSession | undefined;
  #digests: Uint8Array[] = [];
  /** How long the agent rests after failures. */
  readonly #rests = new Backoff();
  /** What trained last, and what of it ran elsewhere; the CPU alone is nothing to speak of. */
  #trainedOn = 'ort-cpu';

  constructor(parts: AgentParts) {
    this.#parts = parts;
    const { calibrate, measureForm, crypto, disk, options, tell } = parts;
    this.#ownVersions = new OwnVersions({
      ...(calibrate === undefined ? {} : { calibrate }),
      ...(measureForm === undefined ? {} : { measureForm }),
      isEvaluator: options.isEvaluator === true,
      key: () => disk.pin.key,
      isGenuine: (kind, payload, signed) => this.#verified(kind, payload, signed),
      sha256: crypto.sha256,
      blob: (artifact) => this.#blob(artifact),
      download: (blob) => this.#download(blob),
      say: (message) => this.#session?.send(message),
      tell,
    });
  }

  async run(): Promise<void> {
    const { signal, coordinator } = this.#parts.options;
    const backoff = new Backoff();
    while (!signal.aborted) {
      const { why, afterMs, unreached } = await this.#runSession(backoff);
      this.#do({ type: 'Broken' });
      if (signal.aborted) return;
      if (afterMs > 0) {
        // The coordinator has spread its agents over time: whoever came at another would spoil that.
        const returnMs = Math.round(Math.min(Math.max(afterMs, RETURN_MS_MIN), RETURN_MS_MAX));
        // What is under way needs its connection.
        if (this.#working.size === 0) await this.#parts.link.rest();
        this.#parts.tell({ type: 'away', coordinator, why, returnMs });
        await sleep(returnMs, signal);
        continue;
      }
      const retryMs = Math.round(backoff.nextMs({ unreached }));
      this.#parts.tell({ type: 'disconnected', coordinator, why, retryMs });
      await sleep(retryMs, signal);
    }
  }

  get isTraining(): boolean {
    return this.#trainings.size > 0;
  }

  /** Says which conditions hold now, and stops what may only go on while another did. */
  conditionsChanged(): void {
    this.#session?.send({ case: 'conditions', value: { holding: [...this.#device.holding] } });
    for (const [key, stop] of [...this.#trainings]) {
      const assignment = this.#assignments.get(key);
      const lost = assignment?.conditions.find((condition) => !this.#device.holding.includes(condition));
      if (assignment === undefined || lost === undefined) continue;
      const why = `${lost} does not hold any more`;
      this.#parts.tell({ type: 'stopped', ...workOf(assignment), why });
      this.#failed(workOf(assignment), new Error(`training was stopped: ${why}`));
      stop.abort();
    }
  }

  get #device(): Device {
    return this.#parts.device ?? unknownDevice;
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#working);
  }

  /** One session from Hello to its end; says why it ended, and when the coordinator wants to see the agent again. */
  #runSession(backoff: Backoff): Promise<{ why: string; afterMs: number; unreached: boolean }> {
    const { options, link, examples, tell } = this.#parts;
    const { agentId, task = '', coordinator, leavesBetweenRounds = false, isEvaluator = false, signal } = options;
    const hello = create(HelloSchema, {
      agentId,
      sessionId: crypto.randomUUID(),
      software: SOFTWARE,
      task,
      examples: BigInt(examples),
      link: link.kind,
      leaves: leavesBetweenRounds,
      evaluator: isEvaluator,
      work: [
        'train',
        ...(this.#parts.trainer.report === undefined ? [] : ['evaluate', 'statistics']),
        ...(this.#parts.measureForm === undefined ? [] : ['measure-forms']),
      ],
      labels: { ...this.#device.labels },
      conditions: [...this.#device.holding],
      ...(this.#device.capabilities === undefined ? {} : { capabilities: this.#device.capabilities }),
    });
    return new Promise((resolve) => {
      let heart: ReturnType<typeof setInterval> | undefined;
      let reminder: ReturnType<typeof setInterval> | undefined;
      const stop = (): void => {
        clearTimeout(unwelcome);
        clearInterval(heart);
        clearInterval(reminder);
      };
      const end = (why: string, afterMs = 0, unreached = false): void => {
        stop();
        signal.removeEventListener('abort', leave);
        session.close();
        resolve({ why, afterMs, unreached });
      };
      const leave = (): void => {
        session.send({ case: 'goodbye', value: {} });
        end('the agent was stopped');
      };
      const welcomed = (welcome: Welcome): void => {
        // A hello that came twice is welcomed twice: timers of the first would outlive the session, and keep the process.
        stop();
        this.#parts.disk.pin.pin(welcome.publicKey);
        if (welcome.answersHeartbeats) unanswered = 0;
        heart = setInterval(beat, Math.max(500, welcome.heartbeatMs));
        reminder = setInterval(() => this.#do({ type: 'Reminded' }), REMIND_MS);
        backoff.connected();
        tell({ type: 'connected', coordinator });
        const [newest] = this.#unfinished();
        this.#do({ type: 'Welcomed', ...(newest === undefined ? {} : { kept: workOf(newest.header) }) });
      };
      /** Heartbeats since the coordinator was last heard; undefined where it answers none. */
      let unanswered: number | undefined;
      const beat = (): void => {
        if (unanswered !== undefined && ++unanswered > UNANSWERED_MAX) {
          // The connection may be as dead as the session.
          link.reconnect();
          return end(`${coordinator} does not answer any more`);
        }
        session.send({ case: 'heartbeat', value: {} });
      };
      const unwelcome = setTimeout(() => {
        link.reconnect();
        end(`${coordinator} does not answer`);
      }, WELCOME_MS);
      const session = link.openSession(hello, {
        onClosed: end,
        onMessage: ({ message }) => {
          if (unanswered !== undefined) unanswered = 0;
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
      case 'roundOver':
        return this.#do({ type: 'Over', ...workOf(message.value) });
      case 'receipt':
        return this.#track(this.#end(message.value));
      case 'calibrationRequest':
        return this.#track(this.#ownVersions.calibrate(message.value));
      case 'measurementRequest':
        return this.#track(this.#ownVersions.measure(message.value));
      case 'wanted': {
        const entry = this.#parts.disk.outbox.get(message.value.updateId);
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
    this.#forgetAssignments();
  }

  /** An assignment is kept while it is trained on or is the next: one that comes again, or is replaced, leaves nothing here. */
  #forgetAssignments(): void {
    const { activity } = this.#state;
    const wanted = new Set(this.#trainings.keys());
    if (activity.phase === 'Training') wanted.add(keyOf(activity));
    if ('next' in activity && activity.next !== undefined) wanted.add(keyOf(activity.next));
    for (const key of this.#assignments.keys()) if (!wanted.has(key)) this.#assignments.delete(key);
  }

  #perform(effect: SessionEffect): void {
    switch (effect.type) {
      case 'Offer':
        return this.#offer();
      case 'SayReady':
        return this.#session?.send({ case: 'ready', value: {} });
      case 'Train':
        return this.#track(this.#train({ task: effect.task, round: effect.round }));
      case 'Stop':
        this.#parts.tell({
          type: 'stopped',
          task: effect.task,
          round: effect.round,
          why: 'the round has what it needs',
        });
        return this.#trainings.get(keyOf(effect))?.abort();
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
      case 'Rest':
        return this.#track(this.#rest());
    }
  }

  async #rest(): Promise<void> {
    const { signal } = this.#parts.options;
    await sleep(this.#rests.nextMs(), signal);
    if (!signal.aborted) this.#do({ type: 'Rested' });
  }

  /** This agent's updates that have not ended, newest first. Another's, from a folder that two have used, are not its to send. */
  #unfinished(): OutboxEntry[] {
    const { disk, options } = this.#parts;
    return disk.outbox
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
    const stop = new AbortController();
    this.#trainings.set(keyOf(work), stop);
    try {
      const assignment = this.#assignments.get(keyOf(work));
      if (assignment === undefined) throw new Error('the assignment is gone');
      const isTraining = assignment.work === '' || assignment.work === 'train';
      const { signal } = stop;
      const trained = await (isTraining ? this.#trainOn(assignment, signal) : this.#reportOn(assignment, signal));
      stop.signal.throwIfAborted();
      this.#trained.set(keyOf(work), trained);
      this.#rests.connected();
      this.#do({ type: 'Trained', ...work });
    } catch (error) {
      if (!stop.signal.aborted) this.#failed(work, error);
    } finally {
      // The same round may have been assigned anew meanwhile.
      if (this.#trainings.get(keyOf(work)) === stop) {
        this.#trainings.delete(keyOf(work));
        this.#forgetAssignments();
      }
    }
  }

  async #trainOn(assignment: Assignment, signal: AbortSignal): Promise<Trained> {
    const { trainer, tell } = this.#parts;
    const work = workOf(assignment);
    const manifest = await this.#checked(assignment);
    const version = Number(manifest.version);
    tell({ type: 'assignment', model: manifest.model, ...work, version, work: 'train' });
    const graph = await this.#blob(artifactOf(manifest, 'graph'));
    const base = await this.#weights(assignment, manifest);
    const { length } = layoutOf(readModel(graph));
    if (length !== base.length)
      throw new CodecError(`version ${version} has ${base.length} weights and a graph of ${length}`);
    const plan = parsePlan(JSON.parse(assignment.planJson));
    const { shape, needsMemory } = localMethodOf(plan);
    const teacher = plan.distillation === undefined ? undefined : await this.#teacher(assignment);
    const memory = needsMemory === true ? await this.#memory(manifest, work.task, length) : [];
    let leftMs = Number(assignment.deadlineInMs);
    const outcome = await localRound(
      { graph, base, memory, plan, seed: assignment.seed },
      (name, ownLength) => this.#parts.disk.own(work.task, name, ownLength),
      async (job) => {
        const trained = await trainer.train(job, leftMs, { signal, teacher });
        leftMs = Math.max(0, leftMs - trained.ms);
        return trained;
      },
    );
    const { loss, examples, steps, ms, engine, elsewhere } = outcome.result;
    const trainedOn = [engine, ...elsewhere].join(' ');
    if (trainedOn !== this.#trainedOn) tell({ type: 'engine', engine, elsewhere });
    this.#trainedOn = trainedOn;
    tell({ type: 'trained', ...work, loss, examples, steps, trainMs: Math.round(ms) });
    invariant(assignment.grid !== undefined, 'an assignment is checked before it is trained');
    return {
      assignment,
      baseVersion: version,
      outcome,
      length: packedLength(shape, length, gridFromWire(assignment.grid)),
    };
  }

  /** The version that the plan's distillation learns from. It may be as old as it likes, but not unsigned. */
  async #teacher({ teacher }: Assignment): Promise<TeacherSource> {
    const { key } = this.#parts.disk.pin;
    if (teacher === undefined || key === undefined) {
      throw new CodecError('the plan learns from a teacher, and the assignment names none');
    }
    const isGenuine = await this.#verified('Manifest', teacher.manifest, teacher);
    const manifest = openManifest(teacher, key, () => isGenuine);
    const [graph, weights] = [artifactOf(manifest, 'graph'), artifactOf(manifest, 'weights')];
    return {
      key: `${hex(graph.digest)} ${hex(weights.digest)}`,
      read: async () => {
        this.#parts.tell({ type: 'teacher', model: manifest.model, version: Number(manifest.version) });
        return joinModel(readModel(await this.#blob(graph)), weightsFromBytes(await this.#blob(weights)));
      },
    };
  }

  /** Measures weights, or the examples themselves. */
  async #reportOn(assignment: Assignment, signal: AbortSignal): Promise<Reported> {
    const { trainer, tell } = this.#parts;
    const { work: name } = assignment;
    const manifest = await this.#checked(assignment);
    const version = Number(manifest.version);
    tell({ type: 'assignment', model: manifest.model, ...workOf(assignment), version, work: name });
    const job = await this.#reportJob(assignment, manifest);
    if (trainer.report === undefined) throw new CodecError(`this agent does not know the work "${name}"`);
    const { report, examples, ms } = await trainer.report(job, Number(assignment.deadlineInMs), signal);
    tell({ type: 'reported', ...workOf(assignment), work: job.work, version, examples, ms: Math.round(ms) });
    return { assignment, baseVersion: version, report };
  }

  async #reportJob(assignment: Assignment, manifest: Manifest): Promise<ReportJob> {
    const plan: unknown = JSON.parse(assignment.planJson);
    const graph = await this.#blob(artifactOf(manifest, 'graph'));
    if (assignment.work === 'evaluate') {
      const weights = [await this.#weights(assignment, manifest)];
      if (assignment.candidate !== undefined) weights.push(await this.#candidate(assignment.candidate, assignment));
      const onAll = this.#parts.options.isEvaluator === true;
      return { work: 'evaluate', graph, weights, plan: plan as EvaluationAsked, onAll };
    }
    if (assignment.work !== 'statistics')
      throw new CodecError(
        `this agent does not know the work "${assignment.work.slice(0, 40)}": is it of an older version?`,
      );
    return { work: 'statistics', plan: parseStatisticsPlan(plan, 0), inputs: contractOf(readModel(graph)).inputs };
  }

  /** The weights of what is to be evaluated beside its base, once its signature and its base were checked. */
  async #candidate(signed: SignedCandidate, { base, task }: Assignment): Promise<Float32Array> {
    const { key } = this.#parts.disk.pin;
    invariant(key !== undefined && base !== undefined, 'an assignment is checked before it is worked on');
    const isGenuine = await this.#verified('Candidate', signed.candidate, signed);
    const candidate = openCandidate(signed, key, () => isGenuine);
    const digest = await this.#parts.crypto.sha256(base.manifest);
    if (candidate.task !== task || !equalBytes(candidate.baseDigest, digest))
      throw new CodecError(`candidate ${candidate.number} is of another task or version than it is sent with`);
    return weightsFromBytes(await this.#blob(artifactOf(candidate, 'weights')));
  }

  /** What the strategy remembered with a version of this task; another task's would be no help. */
  async #memory(manifest: Manifest, task: string, length: number): Promise<Float32Array[]> {
    const artifact = manifest.artifacts.find(({ role }) => role === 'server-memory');
    if (artifact === undefined || manifest.task !== task) return [];
    const values = weightsFromBytes(await this.#blob(artifact));
    if (values.length % length !== 0)
      throw new CodecError(`the memory of version ${manifest.version} has another length`);
    return Array.from({ length: values.length / length }, (_, i) => values.slice(i * length, (i + 1) * length));
  }

  /** Makes the update and puts it into the outbox: from here on no crash loses it. */
  async #keep(work: Work): Promise<void> {
    try {
      const trained = this.#trained.get(keyOf(work));
      if (trained === undefined) throw new Error('the result of the training is gone');
      const { crypto, deflate, disk, options } = this.#parts;
      const { sha256 } = crypto;
      if ('report' in trained) {
        const report = await makeReport({ sha256, agentId: options.agentId, ...trained });
        await disk.outbox.put(report);
        this.#kept.set(keyOf(work), report.header.updateId);
        return this.#do({ type: 'Kept', ...work });
      }
      const residual = await disk.residual(work.task, trained.length);
      const update = await makeUpdate({ sha256, deflate, agentId: options.agentId, ...trained, residual });
      await disk.outbox.put({ header: update.header, payload: update.payload });
      // After the update: a crash between the two sends the remainder twice at worst, and never loses it.
      await disk.keepResidual(work.task, update.residual);
      for (const [name, vector] of trained.outcome.own) await disk.keepOwn(work.task, name, vector);
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
  async #checked(assignment: Assignment): Promise<Manifest> {
    const { base, conditions, task, grid } = assignment;
    const lacking = conditions.find((condition) => !this.#device.holding.includes(condition));
    if (lacking !== undefined) throw new Error(`${lacking} does not hold`);
    const { key } = this.#parts.disk.pin;
    if (base === undefined || key === undefined || grid === undefined || formatFromWire(assignment) === undefined) {
      throw new CodecError('the assignment is incomplete: is the coordinator of a newer version?');
    }
    if (!isName(task)) throw new CodecError('the assignment has no proper task name');
    const isGenuine = await this.#verified('Manifest', base.manifest, base);
    const manifest = openManifest(base, key, () => isGenuine);
    await this.#parts.disk.refuseOlder(task, manifest);
    return manifest;
  }

  /** Small weights come inside the assignment; damaged ones are fetched instead. */
  async #weights({ weightsInline }: Assignment, manifest: Manifest): Promise<Float32Array> {
    const artifact = artifactOf(manifest, 'weights');
    const { sha256 } = this.#parts.crypto;
    const isWhole = weightsInline.length > 0 && equalBytes(await sha256(weightsInline), artifact.digest);
    if (isWhole) return weightsFromBytes(weightsInline);
    const cached = await this.#cached(artifact.digest);
    if (cached !== undefined) return weightsFromBytes(cached);
    const { disk, tell } = this.#parts;
    const made = await weightsByDeltas(manifest, artifact, {
      blobs: {
        get: (digest) => this.#cached(digest),
        has: (digest) => disk.blobs.has(digest),
        isOf: (digest, bytes) => disk.blobs.isOf(digest, bytes),
      },
      download: (delta) => this.#download(delta),
      onFault: ({ message }) => tell({ type: 'warning', text: message }),
    });
    return weightsFromBytes(await this.#keepBlob(artifact.digest, made ?? (await this.#download(artifact))));
  }

  async #blob(artifact: Artifact): Promise<Uint8Array> {
    const cached = await this.#cached(artifact.digest);
    return cached ?? this.#keepBlob(artifact.digest, await this.#download(artifact));
  }

  async #cached(digest: Uint8Array): Promise<Uint8Array | undefined> {
    const cached = await this.#parts.disk.blobs.get(digest);
    // Used just now, so the last to go.
    if (cached !== undefined) {
      this.#digests = [digest, ...this.#digests.filter((known) => !equalBytes(known, digest))];
    }
    return cached;
  }

  #download({ digest, size }: Pick<Artifact, 'digest' | 'size'>): Promise<Uint8Array> {
    const { crypto, link, options } = this.#parts;
    const { sha256 } = crypto;
    return downloadBlob(link.readBlob.bind(link), digest, Number(size), { sha256, signal: options.signal });
  }

  async #keepBlob(digest: Uint8Array, blob: Uint8Array): Promise<Uint8Array> {
    const { disk } = this.#parts;
    await disk.blobs.put(digest, blob);
    this.#digests = [digest, ...this.#digests].slice(0, DIGESTS_KEPT);
    await disk.blobs.keepOnly(this.#digests);
    return blob;
  }

  /** Sends the update that was just kept, as the outbox has it. */
  #uploadKept(work: Work): void {
    const updateId = this.#kept.get(keyOf(work));
    this.#kept.delete(keyOf(work));
    const entry = updateId && this.#parts.disk.outbox.get(updateId);
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
    const {
      disk: { pin, outbox },
      tell,
    } = this.#parts;
    if (pin.key === undefined) return;
    const isGenuine = await this.#verified('Receipt', signed.receipt, signed);
    const receipt = openReceipt(signed, pin.key, () => isGenuine);
    const updateId = hex(receipt.updateId);
    const entry = outbox.get(receipt.updateId);
    const isKnown = entry !== undefined;
    // Without rounds the one that an update went into may be a later one.
    const work = workOf(entry?.header ?? receipt);
    await outbox.delete(receipt.updateId);
    if (isKnown && receipt.outcome.case === 'committedVersion') {
      tell({ type: 'receipt', ...work, version: Number(receipt.outcome.value), updateId });
    } else if (isKnown && receipt.outcome.case === 'countedRound') {
      tell({ type: 'counted', ...work, updateId });
    } else if (isKnown && receipt.outcome.case === 'rejected') {
      tell({ type: 'rejected', ...work, reason: reasonName(receipt.outcome.value), updateId });
    }
    this.#do({ type: 'Ended', ...work });
  }

  /** In a browser a signature is something to wait for. */
  async #verified(
    kind: 'Manifest' | 'VariantList' | 'Receipt' | 'Candidate',
    payload: Uint8Array,
    { publicKey, signature }: Pick<SignedReceipt, 'publicKey' | 'signature'>,
  ): Promise<boolean> {
    return await this.#parts.crypto.verifyEd25519(publicKey, signedBytes(kind, payload), signature);
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

/** 'stale-round' for Reason.STALE_ROUND. */
function reasonName(reason: Reason): string {
  const [name = 'unknown'] = Object.entries(Reason).find(([, value]) => value === reason) ?? [];
  return name.toLowerCase().replaceAll('_', '-');
}
