import { create } from '@bufbuild/protobuf';
import { AgentStatusSchema, type AgentStatus, type Hello, type SessionResponse } from '@commonweight/proto';
import type { AgentSink } from '../service.ts';

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

/** Which agents are there, and which of them are free. */
export class Fleet {
  readonly #members = new Map<string, Member>();

  /** Takes an agent's new session in; an older session of it is told to close. */
  join(hello: Hello, sink: AgentSink, nowMs: number): void {
    const before = this.#members.get(hello.agentId);
    if (before?.online === true) before.sink.close('a newer session of this agent took over');
    this.#members.delete(hello.agentId);
    this.#members.set(hello.agentId, { hello, sink, online: true, ready: false, seenMs: nowMs });
    this.#forgetOldest();
  }

  /** Whether the sink is still that of the agent's session. */
  isCurrent(agentId: string, sink: AgentSink): boolean {
    return this.#members.get(agentId)?.sink === sink;
  }

  leave(agentId: string): void {
    const member = this.#members.get(agentId);
    if (member !== undefined) Object.assign(member, { online: false, ready: false });
  }

  seen(agentId: string, nowMs: number): void {
    const member = this.#members.get(agentId);
    if (member !== undefined) member.seenMs = nowMs;
  }

  setReady(agentId: string, ready: boolean): void {
    const member = this.#members.get(agentId);
    if (member !== undefined) member.ready = ready && member.online;
  }

  isReady(agentId: string): boolean {
    return this.#members.get(agentId)?.ready === true;
  }

  /** Agents that a task may invite. */
  readyFor(task: string): string[] {
    return [...this.#members]
      .filter(([, { ready, hello }]) => ready && serves(hello, task))
      .map(([agentId]) => agentId);
  }

  onlineFor(task: string): number {
    let online = 0;
    for (const { online: isOnline, hello } of this.#members.values()) if (isOnline && serves(hello, task)) online++;
    return online;
  }

  isOnline(agentId: string): boolean {
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
    return [...this.#members].map(([agentId, { hello, online, ready, seenMs }]) =>
      create(AgentStatusSchema, {
        agentId,
        link: hello.link,
        online,
        ready,
        examples: hello.examples,
        seenMs: BigInt(seenMs),
      }),
    );
  }

  closeAll(reason: string): void {
    for (const { online, sink } of this.#members.values()) if (online) sink.close(reason);
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
