import type { Clock } from '../clock.ts';
import type { Shares } from '../store/shares.ts';
import type { Fleet } from './fleet.ts';
import { once, type Once } from './once.ts';
import type { TaskDriver } from './task-driver.ts';

/** Hints of changes get lost, so everything is looked at this often too. */
const LOOK_MS = 1_000;
/** A part of a sum that has something new is put into the rows this often. */
export const CHECKPOINT_MS = 5_000;

interface LeaderWorld {
  clock: Clock;
  log(line: string): void;
  tasks(): readonly TaskDriver[];
  failed(error: unknown): void;
}

/** What the leader does for the other replicas: it reads their agents and claims, and takes the silent ones for dead. */
export class Neighbours {
  readonly #shares: Shares;
  readonly #fleet: Fleet;
  readonly #world: LeaderWorld;
  readonly #stops: (() => void)[];
  readonly #look: Once;
  readonly #work: readonly Once[];

  constructor(shares: Shares, fleet: Fleet, world: LeaderWorld) {
    this.#shares = shares;
    this.#fleet = fleet;
    this.#world = world;
    const readFleet = once(() => this.#readFleet(), world.failed);
    this.#look = once(() => this.#lookAtAll(), world.failed);
    const checkpoint = once(async () => {
      for (const task of world.tasks()) await task.checkpoint();
    }, world.failed);
    this.#stops = [
      shares.onChange(({ kind, task }) => {
        if (kind === 'fleet') void readFleet.run();
        const driver = kind === 'claims' ? world.tasks().find((one) => one.task === task) : undefined;
        driver?.claimsChanged().catch(() => {});
      }),
      world.clock.every(LOOK_MS, () => void this.#look.run()),
      world.clock.every(CHECKPOINT_MS, () => void checkpoint.run()),
    ];
    this.#work = [readFleet, this.#look, checkpoint];
    void shares.fenced.then((error) => world.failed(error));
  }

  /** Reads everything once. */
  look(): Promise<void> {
    return this.#look.run();
  }

  /** Resolves when nothing of it is under way any more. */
  async stop(): Promise<void> {
    for (const stop of this.#stops) stop();
    await Promise.all(this.#work.map((one) => one.stop()));
  }

  async #lookAtAll(): Promise<void> {
    const died = await this.#shares.fence();
    if (died.length > 0)
      this.#world.log(`${died.length} replicas are silent: what they had and kept nowhere is asked for again`);
    await this.#readFleet();
    // What went wrong in it was told by the task.
    for (const task of this.#world.tasks()) await task.claimsChanged().catch(() => {});
  }

  async #readFleet(): Promise<void> {
    const { came, went } = this.#fleet.setElsewhere(await this.#shares.members());
    const running = this.#world.tasks().filter(({ isRunning }) => isRunning);
    const told = running.flatMap((task) => [
      ...came.map((agentId) => task.agentBack(agentId)),
      ...went.map((agentId) => task.agentAway(agentId)),
      task.tick(),
    ]);
    // What went wrong was told by the task.
    await Promise.allSettled(told);
  }
}
