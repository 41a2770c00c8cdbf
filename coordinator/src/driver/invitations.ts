import { create } from '@bufbuild/protobuf';
import { invariant, weightsToBytes } from '@commonweight/core';
import {
  AssignmentSchema,
  digestOf,
  formatToWire,
  gridToWire,
  SessionResponseSchema,
  WEIGHTS_INLINE_BYTES_MAX,
  type Assignment,
  type FormatOnWire,
  type SessionResponse,
  type SignedCandidate,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { sha256, type OpenVersion } from '../registry/registry.ts';
import type { Collecting } from '../round/round.ts';
import type { RoundWork } from './round-work.ts';

/** Of a token, which is not stored: whoever has the signing key makes it again. */
const TOKEN_BYTES = 16;

/** What shows, without rounds, that an agent was invited on a version: nobody keeps lists of who trains on which. */
export function invitationToken(
  signer: Signer,
  invited: Pick<UpdateHeader, 'agentId' | 'baseVersion' | 'round' | 'task'>,
): Uint8Array {
  const { agentId, baseVersion, round, task } = invited;
  const parts = [agentId, task, round, baseVersion].map((part) => new TextEncoder().encode(String(part)));
  return sha256(signer.sign('Invitation', digestOf(parts, sha256))).slice(0, TOKEN_BYTES);
}

/** What the agents of a task's rounds start from. */
export interface Champion extends Pick<OpenVersion, 'signed' | 'weights'> {
  /** To be evaluated beside it. */
  candidate?: SignedCandidate;
}

/** What the agents of a task's rounds are told. */
export class Invitations {
  readonly #task: string;
  readonly #work: RoundWork;
  readonly #signer: Signer;
  /** What all agents of one round are told alike. */
  #common: { round: number; assignment: Assignment } | undefined;

  constructor(task: string, work: RoundWork, signer: Signer) {
    this.#task = task;
    this.#work = work;
    this.#signer = signer;
  }

  /** What one agent is told, which has so many milliseconds left for it, and how many bytes of it are the model. */
  of(
    agentId: string,
    state: Collecting,
    champion: Champion,
    leftMs: number,
  ): { message: SessionResponse; bytes: number } {
    if (this.#common?.round !== state.round) {
      this.#common = { round: state.round, assignment: this.#make(state, champion) };
    }
    const { assignment: common } = this.#common;
    const text = `${this.#work.config.seed} ${this.#task} ${state.round} ${agentId}`;
    const seed = Buffer.from(sha256(new TextEncoder().encode(text))).readBigUInt64BE();
    const deadlineInMs = BigInt(Math.max(0, Math.floor(leftMs)));
    const assignment = create(AssignmentSchema, { ...common, seed, deadlineInMs });
    if (this.#work.asynchronous !== undefined) {
      const { round, task } = assignment;
      const baseVersion = BigInt(state.version);
      assignment.invitation = invitationToken(this.#signer, { agentId, task, round, baseVersion });
    }
    const message = create(SessionResponseSchema, { message: { case: 'assignment', value: assignment } });
    return { message, bytes: common.weightsInline.length + (common.base?.manifest.length ?? 0) };
  }

  #make(state: Collecting, { signed, weights, candidate }: Champion): Assignment {
    const isSmall = 4 * weights.length <= WEIGHTS_INLINE_BYTES_MAX;
    return create(AssignmentSchema, {
      task: this.#task,
      round: BigInt(state.round),
      base: signed,
      conditions: [...(this.#work.config.where?.conditions ?? [])],
      ...this.#asked(state),
      // Who counts data has no use for weights.
      ...(isSmall && this.#work.workOf(state) !== 'statistics' ? { weightsInline: weightsToBytes(weights) } : {}),
      ...(candidate === undefined ? {} : { candidate }),
    });
  }

  /** What is to be done, and how it is to be sent. */
  #asked(state: Collecting): Pick<Assignment, 'planJson' | 'grid' | 'work' | 'teacher' | keyof FormatOnWire> {
    const { reporting, training } = this.#work;
    const work = this.#work.workOf(state);
    const format = formatToWire(this.#work.expectedOf(state).format);
    if (work === 'train') {
      invariant(training !== undefined, 'who trains has a strategy');
      const { config, grid, strategy, teacher } = training;
      const planJson = JSON.stringify(strategy.instruct(config.plan));
      return { planJson, ...format, grid: gridToWire(grid), work: '', ...(teacher === undefined ? {} : { teacher }) };
    }
    invariant(reporting !== undefined, 'who reports has a plan for it');
    const { grid, plan } = reporting;
    return { planJson: JSON.stringify(plan), ...format, grid: gridToWire(grid), work };
  }
}
