import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AgentStatusSchema,
  HelloSchema,
  type AgentStatus,
  type Hello,
  type SessionResponse,
} from '@commonweight/proto';
import type { AgentSink } from '../service.ts';
import type { MemberRow } from '../store/shares.ts';

/** Agents that were seen and are gone are remembered up to this many. */
const AGENTS_MAX = 100_000;

interface Member {
  hello: Hello;
  sink: AgentSink;
  online: boolean;
  /** Free to be invited. */
  ready: boolean;
  seenMs: number;
}

/** Which agents are there, and which of them are free: this coordinator's own, and those of other replicas. */
export class Fleet {
  readonly #members = new Map<string, Member>();
  /** Agents whose session is at another replica, which tells them what they have to know. */
  #elsewhere = new Map<string, { hello: Hello; ready: boolean }>();
  /** Own agents whose state is another since it was last taken. */
  #changed = new Set<string>();
  #online = 0;

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
    this.#members.set(hello.agentId, { hello, sink, online: true, ready: false, seenMs: nowMs });
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

  setReady(agentId: string, isReady: boolean): void {
    const member = this.#members.get(agentId);
    const elsewhere = this.#elsewhere.get(agentId);
    if (elsewhere !== undefined && member?.online !== true) elsewhere.ready = isReady;
    const ready = isReady && member?.online === true;
    if (member === undefined || member.ready === ready) return;
    member.ready = ready;
    this.#changed.add(agentId);
  }

  isReady(agentId: string): boolean {
    const member = this.#members.get(agentId);
    return member?.online === true ? member.ready : this.#elsewhere.get(agentId)?.ready === true;
  }

  /** Agents that a task may invite. */
  readyFor(task: string): string[] {
    return [...this.#there()]
      .filter(([, { ready, hello }]) => ready && serves(hello, task))
      .map(([agentId]) => agentId);
  }

  onlineFor(task: string): number {
    let online = 0;
    for (const [, { hello }] of this.#there()) if (serves(hello, task)) online++;
    return online;
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

const serves = (hello: Hello, task: string): boolean => hello.task === '' || hello.task === task;
