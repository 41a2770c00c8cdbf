import { returnFor, ReturnCalendar, type Call } from '../return-time.ts';
import type { Fleet } from './fleet.ts';
import type { TaskWork } from './task-work.ts';

/** An agent that is wanted within this time stays, and so does one that waits for others, for this long. */
const HOLD_MS = 10_000;

/** Sends the agents away that leave between rounds, where no task needs them, and tells them when to come back. */
export class Dismissals {
  readonly #fleet: Fleet;
  readonly #tasks: () => Iterable<TaskWork>;
  readonly #calendar = new ReturnCalendar();
  #count = 0;

  constructor(fleet: Fleet, tasks: () => Iterable<TaskWork>) {
    this.#fleet = fleet;
    this.#tasks = tasks;
  }

  /** Agents that were sent away, since the start. */
  get count(): number {
    return this.#count;
  }

  /** Looks at all who are free. */
  look(nowMs: number): void {
    const agents = this.#fleet.known(nowMs);
    for (const { agentId, heldMs } of this.#fleet.leavers(nowMs)) {
      const call = this.#callFor(agentId);
      const isSoon = call !== undefined && call.inMs <= HOLD_MS;
      if (isSoon && heldMs <= HOLD_MS) continue;
      // Who was held for nothing was not wanted as soon as it seemed: all who are in the same case meet.
      const afterMs = this.#calendar.put(returnFor(isSoon ? undefined : call, { agents, nowMs }), nowMs);
      this.#fleet.dismiss(agentId, { reason: reasonOf(call), afterMs, nowMs });
      this.#count++;
      for (const task of this.#tasks()) task.agentAway(agentId).catch(() => {});
    }
  }

  /** The first call of a task that may invite the agent. */
  #callFor(agentId: string): Call | undefined {
    const calls = [...this.#tasks()].flatMap((task) => task.callFor(agentId) ?? []);
    return calls.sort((a, b) => a.inMs - b.inMs)[0];
  }
}

function reasonOf(call: Call | undefined): string {
  if (call === undefined) return 'no task needs this agent now';
  if (call.inMs === 0) return 'there are too few agents for a round';
  return `the next round is expected in ${Math.ceil(call.inMs / 1000)} s`;
}
