import { create } from '@bufbuild/protobuf';
import { weightsToBytes, type GridSpec, type Strategy } from '@commonweight/core';
import {
  AssignmentSchema,
  digestOf,
  encodingToWire,
  gridToWire,
  SessionResponseSchema,
  WEIGHTS_INLINE_BYTES_MAX,
  type Assignment,
  type SessionResponse,
  type SignedManifest,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { sha256, type OpenVersion } from '../registry/registry.ts';
import type { TaskConfig } from '../round/policy.ts';
import type { Collecting } from '../round/round.ts';

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

/** What the agents of a task's rounds are told. */
export class Invitations {
  readonly #task: string;
  readonly #config: TaskConfig;
  readonly #strategy: Strategy;
  readonly #grid: GridSpec;
  readonly #signer: Signer;
  readonly #teacher: SignedManifest | undefined;
  /** What all agents of one round are told alike. */
  #common: { round: number; assignment: Assignment } | undefined;

  constructor(
    { task, config, teacher }: { task: string; config: TaskConfig; teacher: SignedManifest | undefined },
    strategy: Strategy,
    grid: GridSpec,
    signer: Signer,
  ) {
    this.#task = task;
    this.#teacher = teacher;
    this.#signer = signer;
    this.#config = config;
    this.#strategy = strategy;
    this.#grid = grid;
  }

  /** What one agent is told, which has so many milliseconds left for it, and how many bytes of it are the model. */
  of(
    agentId: string,
    state: Collecting,
    base: Pick<OpenVersion, 'signed' | 'weights'>,
    leftMs: number,
  ): { message: SessionResponse; bytes: number } {
    if (this.#common?.round !== state.round) {
      this.#common = { round: state.round, assignment: this.#make(state, base) };
    }
    const { assignment: common } = this.#common;
    const text = `${this.#config.seed} ${this.#task} ${state.round} ${agentId}`;
    const seed = Buffer.from(sha256(new TextEncoder().encode(text))).readBigUInt64BE();
    const deadlineInMs = BigInt(Math.max(0, Math.floor(leftMs)));
    const assignment = create(AssignmentSchema, { ...common, seed, deadlineInMs });
    if (this.#strategy.asynchronous !== undefined) {
      const { round, task } = assignment;
      const baseVersion = BigInt(state.version);
      assignment.invitation = invitationToken(this.#signer, { agentId, task, round, baseVersion });
    }
    const message = create(SessionResponseSchema, { message: { case: 'assignment', value: assignment } });
    return { message, bytes: common.weightsInline.length + (common.base?.manifest.length ?? 0) };
  }

  #make(state: Collecting, { signed, weights }: Pick<OpenVersion, 'signed' | 'weights'>): Assignment {
    const isSmall = 4 * weights.length <= WEIGHTS_INLINE_BYTES_MAX;
    return create(AssignmentSchema, {
      task: this.#task,
      round: BigInt(state.round),
      base: signed,
      planJson: JSON.stringify(this.#strategy.instruct(this.#config.plan)),
      encoding: encodingToWire(this.#config.encoding),
      grid: gridToWire(this.#grid),
      ...(isSmall ? { weightsInline: weightsToBytes(weights) } : {}),
      ...(this.#teacher === undefined ? {} : { teacher: this.#teacher }),
    });
  }
}
