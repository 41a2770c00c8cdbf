import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AgentStatusSchema,
  HelloSchema,
  type AgentStatus,
  type Hello,
  type SessionResponse,
} from '@commonweight/proto';
import { RETURN_MS_MAX } from '../return-time.ts';
import type { WorkName } from '../round/config.ts';
import { unmet, type Where } from '../round/where.ts';
import type { AgentSink } from '../service.ts';
import type { MemberRow } from '../store/shares.ts';

/** Agents that were seen and are gone are remembered up to this many. */
const AGENTS_MAX = 100_000;
/** An agent that was seen within this time is reckoned with, whether it is there or not. */
const KNOWN_MS = 2 * RETURN_MS_MAX;
const RECOUNT_MS = 1_000;

interface Member {
  hello: Hello;
  sink: AgentSink;
  online: boolean;
  /** Free to be invited. */
  ready: boolean;
  /** Since when. */
  readySinceMs: number;
  seenMs: number;
  /** When it was told to come back. */
  returnMs?: number;
}

/** What agents say that can run forms of a version beside float32: no task's work, and whoever is free may be asked. */
export const MEASURES = 'measure-forms';

/** What a task wants agents for, and which it may invite. */
export interface Wanting {
  task: string;
  where: Where;
  work: WorkName | typeof MEASURES;
  /** Evaluators, by their names: then nobody else will do, and what they have is not asked for. */
  evaluators?: readonly string[] | undefined;
}

/** A task whose round is due. */
export interface Waiting {
  wanting: Wanting;
  /** Agents that it needs. */
  atLeast: number;
  /** Who may not be in its next round. */
  leavesOut(agentId: string): boolean;
}

/** Which agents are there, and which of them are free: this coordinator's own, and those of other replicas. */
export class Fleet {
  readonly #members = new Map<string, Member>();
  /** Agents whose session is at another replica, which tells them what they have to know. */
  #elsewhere = new Map<string, { hello: Hello; ready: boolean }>();
  /** Own agents whose state is another since it was last taken. */
  #changed = new Set<string>();
  #online = 0;
  #counted = { known: 0, atMs: -Infinity };
  /** By task. */
  readonly #waiting = new Map<string, Waiting & { sinceMs: number }>();

  /** Agents whose session is here. */
  get online(): number {
    return this.#online;
  }

  /** Takes an agent's new session in; an older session of it is told to close. */
  join(hello: Hello, sink: AgentSink, nowMs: number): void {
    const before = this.#members.get(hello.agentId);
    if (before?.online === true) before.sink.close('a newer session of this agent took over');
    else this.#online += 1;
    this.#members.delete(hello.agentId);
    this.#members.set(hello.agentId, { hello, sink, online: true, ready: false, readySinceMs: nowMs, seenMs: nowMs });
    this.#changed.add(hello.agentId);
    this.#forgetOldest();
  }

  /** Whether the sink is still that of the agent's session. */
  isCurrent(agentId: string, sink: AgentSink): boolean {
    return this.#members.get(agentId)?.sink === sink;
  }

  leave(agentId: string): void {
    const member = this.#members.get(agentId);
    if (member === undefined) return;
    if (member.online) this.#online -= 1;
    Object.assign(member, { online: false, ready: false });
    this.#changed.add(agentId);
  }

  seen(agentId: string, nowMs: number): void {
    const member = this.#members.get(agentId);
    if (member !== undefined) member.seenMs = nowMs;
  }

  setReady(agentId: string, isReady: boolean, nowMs: number = 0): void {
    const member = this.#members.get(agentId);
    const elsewhere = this.#elsewhere.get(agentId);
    if (elsewhere !== undefined && member?.online !== true) elsewhere.ready = isReady;
    const ready = isReady && member?.online === true;
    if (member === undefined || member.ready === ready) return;
    member.ready = ready;
    member.readySinceMs = nowMs;
    this.#changed.add(agentId);
  }

  /** Own agents that are free and leave between rounds, and for how long they have been held. */
  *leavers(nowMs: number): Generator<{ agentId: string; heldMs: number }> {
    for (const [agentId, { hello, online, ready, readySinceMs }] of this.#members) {
      if (online && ready && hello.leaves) yield { agentId, heldMs: nowMs - readySinceMs };
    }
  }

  /** Sends an agent away. */
  dismiss(agentId: string, { reason, afterMs, nowMs }: { reason: string; afterMs: number; nowMs: number }): void {
    const member = this.#members.get(agentId);
    if (member?.online !== true) return;
    member.sink.close(reason, afterMs);
    member.returnMs = nowMs + afterMs;
    this.leave(agentId);
  }

  /** Agents that are there, or were a while ago: those that leave between rounds come again. */
  known(nowMs: number): number {
    // For each of ten thousand agents that leave at once all would be looked through.
    if (nowMs - this.#counted.atMs < RECOUNT_MS) return this.#counted.known;
    let known = this.#elsewhere.size;
    for (const { online, seenMs } of this.#members.values()) if (online || nowMs - seenMs < KNOWN_MS) known++;
    this.#counted = { known, atMs: nowMs };
    return known;
  }

  /** Agents of a task that were sent away, and when the last of them is to be back. */
  returning(task: string, nowMs: number): { agents: number; lastMs: number } {
    let [agents, lastMs] = [0, 0];
    for (const { hello, online, returnMs } of this.#members.values()) {
      if (online || returnMs === undefined || returnMs < nowMs || !serves(hello, task)) continue;
      agents++;
      lastMs = Math.max(lastMs, returnMs - nowMs);
    }
    return { agents, lastMs };
  }

  isReady(agentId: string): boolean {
    const member = this.#members.get(agentId);
    return member?.online === true ? member.ready : this.#elsewhere.get(agentId)?.ready === true;
  }

  /** Agents that a task may invite: those that a task needs which has waited for longer are not among them. */
  readyFor(wanting: Wanting): string[] {
    const kept = this.#waiting.size === 0 ? undefined : this.#keptFrom(wanting.task);
    return this.#readyAnd(wanting).filter((agentId) => kept?.has(agentId) !== true);
  }

  /** A round of a task is due, and what it may still be short of: its turn comes before that of tasks that wait for less long. */
  waits(waiting: Waiting, nowMs: number): void {
    const { task } = waiting.wanting;
    this.#waiting.set(task, { ...waiting, sinceMs: this.#waiting.get(task)?.sinceMs ?? nowMs });
  }

  waitsNoMore(task: string): void {
    this.#waiting.delete(task);
  }

  #readyAnd(wanting: Wanting): string[] {
    return [...this.#there()]
      .filter(([, { ready, hello }]) => ready && lackOf(hello, wanting) === undefined)
      .map(([agentId]) => agentId);
  }

  /** What others need that have waited for longer, each its minimum; where their minimum is not even connected they need none. */
  #keptFrom(task: string): Set<string> {
    const kept = new Set<string>();
    const ownMs = this.#waiting.get(task)?.sinceMs ?? Infinity;
    for (const [other, { atLeast, leavesOut, sinceMs, wanting }] of this.#waiting) {
      if (other === task || sinceMs >= ownMs) continue;
      const isForIt = (agentId: string): boolean => !leavesOut(agentId);
      let there = 0;
      for (const [agentId, { hello }] of this.#there())
        if (lackOf(hello, wanting) === undefined && isForIt(agentId)) there++;
      if (there < atLeast) continue;
      for (const agentId of this.#readyAnd(wanting).filter(isForIt).sort().slice(0, atLeast)) kept.add(agentId);
    }
    return kept;
  }

  /** Agents of a task that are there, and of these the ones that it may not invite, counted by what they lack first. */
  countsFor(wanting: Wanting): { online: number; unqualified: Record<string, number> } {
    const unqualified: Record<string, number> = {};
    let online = 0;
    const count = (hello: Hello): void => {
      if (!serves(hello, wanting.task)) return;
      online++;
      const lack = lackOf(hello, wanting);
      if (lack !== undefined && lack !== '') unqualified[lack] = (unqualified[lack] ?? 0) + 1;
    };
    // Ten thousand, whenever somebody looks: without the pairs that #there makes.
    for (const member of this.#members.values()) if (member.online) count(member.hello);
    for (const [agentId, { hello }] of this.#elsewhere) if (this.#members.get(agentId)?.online !== true) count(hello);
    return { online, unqualified };
  }

  /** What holds of an agent now. */
  setConditions(agentId: string, holding: readonly string[]): void {
    const member = this.#members.get(agentId);
    if (member?.online !== true) return;
    member.hello = { ...member.hello, conditions: [...holding] };
    this.#changed.add(agentId);
  }

  /** Whether an agent that is connected here said that it can do some work. */
  knows(agentId: string, work: string): boolean {
    const member = this.#members.get(agentId);
    return member?.online === true && member.hello.work.includes(work);
  }

  /** Whether an agent that is connected here may work for a task. */
  qualifies(agentId: string, wanting: Wanting): boolean {
    const member = this.#members.get(agentId);
    return member?.online === true && lackOf(member.hello, wanting) === undefined;
  }

  isOnline(agentId: string): boolean {
    return this.#members.get(agentId)?.online === true || this.#elsewhere.has(agentId);
  }

  /** Whether the agent's session is here. */
  hasSession(agentId: string): boolean {
    return this.#members.get(agentId)?.online === true;
  }

  seenMs(agentId: string): number | undefined {
    return this.#members.get(agentId)?.seenMs;
  }

  /** Sends where the agent is there; what is not delivered is asked for again when it comes back. */
  send(agentId: string, message: SessionResponse): void {
    const member = this.#members.get(agentId);
    if (member?.online === true) member.sink.send(message);
  }

  list(): AgentStatus[] {
    const own = [...this.#members].map(([agentId, { hello, online, ready, seenMs }]) =>
      create(AgentStatusSchema, {
        agentId,
        link: hello.link,
        online: online || this.#elsewhere.has(agentId),
        ready,
        examples: hello.examples,
        seenMs: BigInt(seenMs),
      }),
    );
    const others = [...this.#elsewhere].flatMap(([agentId, { hello, ready }]) =>
      this.#members.has(agentId)
        ? []
        : [create(AgentStatusSchema, { agentId, link: hello.link, online: true, ready, examples: hello.examples })],
    );
    return [...own, ...others];
  }

  /** What other replicas should know of this one's agents, since the last time; undefined is gone. */
  takeChanges(): ReadonlyMap<string, { hello: Uint8Array; ready: boolean } | undefined> {
    const changed = this.#changed;
    this.#changed = new Set();
    return new Map(
      [...changed].map((agentId) => {
        const member = this.#members.get(agentId);
        const isThere = member?.online === true;
        return [agentId, isThere ? { hello: toBinary(HelloSchema, member.hello), ready: member.ready } : undefined];
      }),
    );
  }

  /** Takes over who is at other replicas. Gives who came and who went. */
  setElsewhere(members: readonly MemberRow[]): { came: string[]; went: string[] } {
    const before = this.#elsewhere;
    this.#elsewhere = new Map(
      members.map(({ agentId, hello, ready }) => [agentId, { hello: fromBinary(HelloSchema, hello), ready }]),
    );
    const came = [...this.#elsewhere.keys()].filter((agentId) => !before.has(agentId));
    const went = [...before.keys()].filter((agentId) => !this.isOnline(agentId));
    return { came, went };
  }

  closeAll(reason: string): void {
    for (const { online, sink } of this.#members.values()) if (online) sink.close(reason);
  }

  /** Everybody who is connected somewhere. */
  *#there(): Generator<[string, { hello: Hello; ready: boolean }]> {
    for (const [agentId, member] of this.#members) if (member.online) yield [agentId, member];
    for (const [agentId, member] of this.#elsewhere) {
      if (this.#members.get(agentId)?.online !== true) yield [agentId, member];
    }
  }

  #forgetOldest(): void {
    if (this.#members.size <= AGENTS_MAX) return;
    for (const [agentId, { online }] of this.#members) {
      if (online) continue;
      this.#members.delete(agentId);
      return;
    }
  }
}

/** What an agent lacks for a task, in words, and none where it is not of that task at all; undefined where it may be invited. */
function lackOf(hello: Hello, { task, where, work, evaluators }: Wanting): string | undefined {
  if (!serves(hello, task)) return '';
  if (evaluators === undefined ? hello.evaluator : !hello.evaluator || !evaluators.includes(hello.agentId)) return '';
  if (hello.work.length === 0 ? work !== 'train' : !hello.work.includes(work)) return `work ${work}`;
  return evaluators === undefined ? unmet(where, hello) : undefined;
}

const serves = (hello: Hello, task: string): boolean => hello.task === '' || hello.task === task;
