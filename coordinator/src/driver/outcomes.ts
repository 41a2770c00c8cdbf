import { create, toBinary } from '@bufbuild/protobuf';
import { invariant } from '@commonweight/core';
import {
  CandidateState,
  ContributionListSchema,
  EvaluationSchema,
  type Candidate,
  type SignedManifest,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import {
  candidateFrom,
  candidateRecord,
  candidateToWire,
  evaluationToWire,
  type OpenCandidate,
} from '../registry/candidates.ts';
import type { Rounding } from '../registry/delta-chain.ts';
import { resultRecord, statisticsBlob } from '../registry/results.ts';
import { blobOf, type OpenVersion, type Registry } from '../registry/registry.ts';
import { NORMS_MAX, stepNormOf, worseThan, wrongStep } from '../round/gates.ts';
import type { PendingCandidate, RoundEvent, RoundState } from '../round/round.ts';
import type { BlobRecord, Commit, ReceiptRecord, Store } from '../store/store.ts';
import type { Counters } from './counters.ts';
import { inBatches } from './in-batches.ts';
import { committedReceipt, countedReceipt, rejectedReceipt, type ReceiptSubject } from './receipts.ts';
import { meansOf, ofTask, type Counted } from './round-sum.ts';
import { countedBy, measuredBy, type RoundWork } from './round-work.ts';
import { fromHex } from './task-work.ts';

/** Updates by id, in hexadecimal. */
export type Collected = ReadonlyMap<string, Counted & { agentId: string }>;

/** A receipt, and whose it is. */
export interface AgentReceipt {
  agentId: string;
  record: ReceiptRecord;
}

/** What a closed round comes to: what is committed with the machine's next state, and what holds then. */
export interface Outcome {
  event: Extract<RoundEvent, { type: 'Published' | 'Proposed' | 'Refused' }>;
  commit: Omit<Commit, 'receipts' | 'task' | 'round'>;
  receipts: readonly AgentReceipt[];
  counters: Partial<Counters>;
  /** What the next rounds start from. */
  base: OpenVersion;
  candidate: OpenCandidate | undefined;
  /** A version that watchers are to hear of. */
  release?: SignedManifest;
  log: string;
}

/** A round that is closed, with all that was taken for it. */
export interface Closed {
  state: RoundState;
  base: OpenVersion;
  candidate: OpenCandidate | undefined;
  collected: Collected;
  counters: Counters;
}

interface OutcomeWorld {
  store: Store;
  registry: Registry;
  signer: Signer;
  nowMs(): number;
  /** The date, for people to read. */
  dateMs(): number;
  /** Resolves after a time. */
  sleep(ms: number): Promise<void>;
}

type CandidateDraft = Pick<Candidate, 'totalWeight' | 'contributionsDigest' | 'metrics' | 'stepNorm'> & {
  weights: Float32Array;
  memory: readonly Float32Array[];
  /** Where it is a step from the base. */
  rounding: Rounding | undefined;
};

/** Decides what rounds of one task come to, and makes it: versions, candidates and results. Nothing of it is durable before its caller commits. */
export class Outcomes {
  readonly #task: string;
  readonly #work: RoundWork;
  readonly #world: OutcomeWorld;

  constructor(task: string, work: RoundWork, world: OutcomeWorld) {
    this.#task = task;
    this.#work = work;
    this.#world = world;
  }

  of(closed: Closed): Promise<Outcome> {
    if (closed.candidate !== undefined) return this.#decided(closed, closed.candidate);
    return this.#work.training === undefined ? this.#result(closed) : this.#trained(closed);
  }

  /** A version, or what waits for a verdict, or what a gate refuses at once. */
  async #trained(closed: Closed): Promise<Outcome> {
    const { training } = this.#work;
    invariant(training !== undefined, 'versions come of training');
    const { base, collected, counters, state } = closed;
    const root = state.phase === 'Idle' ? undefined : state.root;
    const made = await training.sum.combine(collected, ofTask(base, this.#task), root);
    const { improvement, rounding, weights } = made;
    const contributions = blobOf(contributionList(weights));
    const draft: CandidateDraft = {
      ...improvement,
      rounding,
      totalWeight: BigInt([...weights.values()].reduce((total, weight) => total + weight, 0)),
      contributionsDigest: contributions.digest,
      metrics: meansOf(collected),
      stepNorm: stepNormOf(base.weights, improvement.weights),
    };
    const { gates = {} } = training.config;
    const why = wrongStep(draft.weights, draft.stepNorm, { norms: counters.norms ?? [], gates });
    if (why !== undefined) return this.#refusedAtOnce(closed, draft, contributions, why);
    if (gates.metric !== undefined) return this.#proposed(closed, draft, contributions);
    return this.#version(closed, draft, { blobs: [contributions], updates: updatesOf(collected), round: state.round });
  }

  /** A round's own work becomes a version. */
  async #version(
    { base, collected, counters }: Closed,
    draft: CandidateDraft,
    made: { blobs: readonly BlobRecord[]; updates: PendingCandidate['updates']; round: number; candidate?: Candidate },
  ): Promise<Outcome> {
    const { registry, signer, nowMs, dateMs } = this.#world;
    const { config, strategy, sum } = this.#work.training!;
    const { weights, memory, rounding, totalWeight, contributionsDigest, metrics, stepNorm } = draft;
    const { candidate, updates, round } = made;
    const next = registry.child(base, {
      model: config.model,
      weights,
      memory,
      rounding,
      manifest: {
        task: this.#task,
        round: BigInt(round),
        strategy: strategy.name,
        totalWeight,
        contributionsDigest,
        metrics,
        createdMs: BigInt(dateMs()),
        ...(candidate === undefined ? {} : { candidate: candidate.number }),
        ...(candidate?.evaluation === undefined ? {} : { evaluation: candidate.evaluation }),
      },
    });
    const { version } = next.version;
    const retained = candidate === undefined ? sum.retained(collected.keys()) : undefined;
    const receipts = await signedFor(updates, { task: this.#task, round }, this.#world, (subject) =>
      committedReceipt(signer, subject, version),
    );
    return {
      event: { type: 'Published', nowMs: nowMs(), version, agents: clientsOf(updates, config.evaluators) },
      commit: {
        version: next.version,
        blobs: [...next.blobs, ...made.blobs],
        ...(retained === undefined ? {} : { retained }),
        ...(candidate === undefined
          ? {}
          : {
              candidate: candidateRecord(signer, {
                ...candidate,
                state: CandidateState.PUBLISHED,
                version: BigInt(version),
              }),
            }),
      },
      receipts,
      counters: {
        updatesAccepted: counters.updatesAccepted + updates.length,
        metrics,
        ...(config.gates?.norm === undefined ? {} : { norms: [...(counters.norms ?? []), stepNorm].slice(-NORMS_MAX) }),
      },
      base: next.open,
      candidate: undefined,
      release: next.open.signed,
      log: `round ${round} published version ${version} from ${updates.length} updates`,
    };
  }

  async #proposed(closed: Closed, draft: CandidateDraft, contributions: BlobRecord): Promise<Outcome> {
    const { base, collected } = closed;
    const { signer, nowMs } = this.#world;
    const { candidate, blobs } = await this.#candidate(closed, draft);
    const record = candidateRecord(signer, candidate);
    const signed = candidateToWire(signer.publicKey, record);
    const { weights, memory, rounding } = draft;
    const updates = updatesOf(collected);
    return {
      event: { type: 'Proposed', nowMs: nowMs(), candidate: { number: record.number, updates } },
      commit: { candidate: record, blobs: [...blobs, contributions] },
      receipts: [],
      counters: { metrics: draft.metrics },
      base,
      candidate: { candidate, signed, weights, memory, rounding },
      log: `round ${candidate.round} made candidate ${record.number} from ${updates.length} updates`,
    };
  }

  async #refusedAtOnce(
    closed: Closed,
    draft: CandidateDraft,
    contributions: BlobRecord,
    why: string,
  ): Promise<Outcome> {
    const { signer } = this.#world;
    const { candidate, blobs } = await this.#candidate(closed, draft);
    const refused = { ...candidate, state: CandidateState.REFUSED, why };
    const commit = { candidate: candidateRecord(signer, refused), blobs: [...blobs, contributions] };
    return this.#refused(closed, refused, { commit, updates: updatesOf(closed.collected) });
  }

  /** What a gate refused is recorded, its updates end, and the task goes on from the champion. */
  async #refused(
    { base, counters }: Closed,
    { number, round, why }: Candidate,
    { commit, updates }: { commit: Outcome['commit']; updates: PendingCandidate['updates'] },
  ): Promise<Outcome> {
    return {
      event: { type: 'Refused', nowMs: this.#world.nowMs() },
      commit,
      receipts: await endedBy(this.#world, this.#task, { round, updates }, 'gate'),
      counters: {
        candidatesRefused: (counters.candidatesRefused ?? 0) + 1,
        updatesRejected: counters.updatesRejected + updates.length,
        rejectedByReason: {
          ...counters.rejectedByReason,
          gate: (counters.rejectedByReason['gate'] ?? 0) + updates.length,
        },
      },
      base,
      candidate: undefined,
      log: `candidate ${number} of round ${round} is refused: ${why}`,
    };
  }

  /** Agents found how good the candidate is: it is a version, or not. */
  async #decided(closed: Closed, open: OpenCandidate): Promise<Outcome> {
    const { reporting, training } = this.#work;
    const gate = training?.config.gates?.metric;
    invariant(reporting !== undefined && gate !== undefined, 'a candidate waits for a gate');
    const { collected, state } = closed;
    const pending = state.candidate;
    invariant(pending !== undefined, 'it was not decided before');
    const [base, own] = measuredBy(reporting);
    invariant(base !== undefined && own !== undefined, 'both were measured');
    const reports = collected.size;
    const judged: Candidate = {
      ...open.candidate,
      baseEvaluation: evaluationToWire(base, reports),
      evaluation: evaluationToWire(own, reports),
    };
    const why = worseThan(base, own, gate);
    const { signer } = this.#world;
    // Their reports are counted either way.
    const counted = await this.#counted(updatesOf(collected), state.round);
    const outcome = await (why === undefined
      ? this.#version(
          closed,
          { ...judged, weights: open.weights, memory: open.memory, rounding: open.rounding },
          {
            blobs: [],
            updates: pending.updates,
            round: Number(judged.round),
            candidate: { ...judged, why: passedWords(base.metrics[gate.name], own.metrics[gate.name], gate.name) },
          },
        )
      : this.#refused(
          closed,
          { ...judged, why },
          {
            commit: { candidate: candidateRecord(signer, { ...judged, state: CandidateState.REFUSED, why }) },
            updates: pending.updates,
          },
        ));
    return { ...outcome, receipts: [...outcome.receipts, ...counted] };
  }

  async #candidate(
    { base, state }: Closed,
    { weights, memory, rounding, ...draft }: CandidateDraft,
  ): Promise<{ candidate: Candidate; blobs: BlobRecord[] }> {
    const { store, dateMs } = this.#world;
    const { config, strategy } = this.#work.training!;
    const last = (await store.candidates(config.model)).at(-1)?.number ?? 0;
    return candidateFrom(base, {
      weights,
      memory,
      rounding,
      candidate: {
        ...draft,
        task: this.#task,
        round: BigInt(state.round),
        strategy: strategy.name,
        createdMs: BigInt(dateMs()),
        epoch: BigInt(store.lease.epoch),
        number: BigInt(last + 1),
      },
    });
  }

  /** The receipts of reports. */
  #counted(reports: PendingCandidate['updates'], round: number): Promise<AgentReceipt[]> {
    const { signer } = this.#world;
    return signedFor(reports, { task: this.#task, round }, this.#world, (subject) => countedReceipt(signer, subject));
  }

  /** What agents measured or counted, in a record of its own. */
  async #result({ base, collected, counters, state }: Closed): Promise<Outcome> {
    const { reporting } = this.#work;
    invariant(reporting !== undefined, 'results come of reports');
    const { signer, store, nowMs, dateMs } = this.#world;
    const reports = collected.size;
    const statistics = reporting.work === 'statistics' ? countedBy(reporting) : undefined;
    const blob = statistics === undefined ? undefined : statisticsBlob(statistics);
    const evaluation =
      statistics === undefined
        ? evaluationToWire(measuredBy(reporting)[0] ?? { examples: 0, metrics: {} }, reports)
        : create(EvaluationSchema, { reports, examples: BigInt(statistics.examples) });
    const { round, version } = state;
    const result = resultRecord(signer, {
      task: this.#task,
      round: BigInt(round),
      kind: reporting.work,
      model: base.manifest.model,
      version: BigInt(version),
      manifestDigest: base.digest,
      createdMs: BigInt(dateMs()),
      epoch: BigInt(store.lease.epoch),
      evaluation,
      statisticsDigest: blob?.digest ?? new Uint8Array(),
      statisticsSize: BigInt(blob?.data.length ?? 0),
    });
    const updates = updatesOf(collected);
    return {
      event: { type: 'Published', nowMs: nowMs(), version, agents: updates.map(({ agentId }) => agentId) },
      commit: { result, ...(blob === undefined ? {} : { blobs: [blob] }) },
      receipts: await this.#counted(updates, round),
      counters: { updatesAccepted: counters.updatesAccepted + updates.length, metrics: evaluation.metrics },
      base,
      candidate: undefined,
      log: `round ${round} ${statistics === undefined ? `measured version ${version} on` : 'counted'} ${evaluation.examples} examples of ${reports} agents`,
    };
  }
}

type SigningWorld = Pick<OutcomeWorld, 'signer' | 'sleep'>;

/** The receipts of a candidate's updates where it is no version. */
export const endedBy = (
  world: SigningWorld,
  task: string,
  { round, updates }: { round: bigint; updates: PendingCandidate['updates'] },
  refusal: 'gate' | 'stale-round',
): Promise<AgentReceipt[]> =>
  signedFor(updates, { task, round: Number(round) }, world, (subject) =>
    rejectedReceipt(world.signer, subject, refusal),
  );

/** A receipt for each update of a round. */
async function signedFor(
  updates: PendingCandidate['updates'],
  of: Pick<ReceiptSubject, 'task' | 'round'>,
  world: SigningWorld,
  sign: (subject: ReceiptSubject) => ReceiptRecord,
): Promise<AgentReceipt[]> {
  const receipts: AgentReceipt[] = [];
  await inBatches(
    updates,
    ({ agentId, updateId }) => void receipts.push({ agentId, record: sign({ ...of, updateId: fromHex(updateId) }) }),
    () => world.sleep(0),
  );
  return receipts;
}

const updatesOf = (collected: Collected): PendingCandidate['updates'] =>
  [...collected]
    .map(([updateId, { agentId }]) => ({ agentId, updateId }))
    .sort((a, b) => (a.updateId < b.updateId ? -1 : 1));

/** Who may be left out of the next rounds: an evaluator is in all of them. */
const clientsOf = (updates: PendingCandidate['updates'], evaluators: readonly string[] = []): string[] =>
  updates.map(({ agentId }) => agentId).filter((agentId) => !evaluators.includes(agentId));

const passedWords = (was: number | undefined, is: number | undefined, name: string): string =>
  `${name} ${Number(is?.toPrecision(4))} against ${Number(was?.toPrecision(4))} of the version before`;

/** Sorted by id, so that the list does not tell who was first. */
function contributionList(weights: ReadonlyMap<string, number>): Uint8Array {
  const accepted = [...weights]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, weight]) => ({ updateId: Buffer.from(id, 'hex'), weight: BigInt(weight) }));
  return toBinary(ContributionListSchema, create(ContributionListSchema, { accepted }));
}
