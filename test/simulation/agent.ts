import { nodePlatform } from '@commonweight/client-sdk';
import { buildEvaluationGraph, EvaluationReports, readModel, type RandomStream } from '@commonweight/core';
import { Agent } from '../../edge-agent/src/agent.ts';
import { deflated } from '../../edge-agent/src/deflate.ts';
import type { Device } from '../../edge-agent/src/device/device.ts';
import type { TrainingJob, TrainingResult } from '../../edge-agent/src/training/messages.ts';
import type { MadeReport, ReportJob } from '../../edge-agent/src/training/reports.ts';
import type { TrainingOptions } from '../../edge-agent/src/training/trainer.ts';
import type { OutboxEntry } from '../../edge-agent/src/outbox/outbox.ts';
import { hex, openDisk, type Durable } from './agent-disk.ts';
import { SimulatedLink, type LinkWorld } from './link.ts';

/** Faults to plant in agents. */
export interface PlantedInAgent {
  /** It forgets an update once the coordinator has it, and not once there is a receipt. */
  forgetsAcceptedUpdates?: boolean;
  /** Its outbox does not outlive its process. */
  forgetsOnStart?: boolean;
  /** It sends an update first, and keeps it a while later. */
  sendsBeforeKeeping?: boolean;
}

export interface AgentWorld extends Omit<LinkWorld, 'isAlive'> {
  /** Whether trainings may fail and take longer than a round. */
  isStormy(): boolean;
  onMade(entry: OutboxEntry): void;
  onKept(id: string): void;
  /** Whether agents find these weights far worse than those that they were made from. */
  isBad(weights: Float32Array): boolean;
  trace(line: string): void;
  /** Whether it leaves between rounds. */
  leaves: boolean;
  /** Whether it is plugged in and out again and again while the weather is bad. */
  isUnplugged: boolean;
  planted: PlantedInAgent;
}

/** How long a training takes, and how long a slow one. */
const TRAIN_MS = 5_000;
const SLOW_MS = 40_000;

/** What an agent says of a receipt that the coordinator did not sign. */
const FORGED = /^Receipt (is signed by another key|has a wrong signature)/;

/**
 * One life of an agent: the production agent between a simulated link, a disk that outlives it and a training that takes time and brings
 * the unit vector of the agent's index, weighing one more than the index.
 */
export class SimulatedAgent {
  readonly link: SimulatedLink;
  readonly #stop = new AbortController();
  #isAlive = true;

  constructor(id: string, index: number, kind: 'grpc' | 'nats', durable: Durable, world: AgentWorld) {
    const { time, random, planted } = world;
    const isAlive = (): boolean => this.#isAlive;
    if (planted.forgetsOnStart === true) durable.outbox.clear();
    const disk = openDisk(durable, {
      time,
      isAlive,
      uniform: random.fork('disk').uniform,
      onMade: world.onMade,
      onKept: world.onKept,
      isLate: planted.sendsBeforeKeeping === true,
    });
    this.link = new SimulatedLink(kind, id, {
      ...world,
      random: random.fork('link'),
      isAlive,
      onAccepted: (updateId) => {
        world.onAccepted(updateId);
        if (planted.forgetsAcceptedUpdates === true) durable.outbox.delete(hex(updateId));
      },
    });
    const training = random.fork('training');
    const train = async (
      { weights }: TrainingJob,
      timeMs: number,
      { signal }: TrainingOptions = {},
    ): Promise<TrainingResult> => {
      const isSlow = world.isStormy() && training.uniform() < 0.1;
      const ms = 200 + training.uniform() * (isSlow ? SLOW_MS : TRAIN_MS);
      const isFailing = world.isStormy() && training.uniform() < 0.05;
      await time.sleep(Math.min(ms, timeMs));
      if (!this.#isAlive) return new Promise(() => {});
      signal?.throwIfAborted();
      if (isFailing || ms > timeMs)
        throw new Error(isFailing ? 'the training process ended' : 'training took too long');
      const trained = weights.map((weight, i) => weight + (i === index ? 1 : 0));
      return {
        weights: trained,
        loss: 1 / (index + 1),
        examples: index + 1,
        steps: 1,
        ms,
        engine: 'ort-cpu',
        elsewhere: [],
      };
    };
    let isCharging = true;
    const device: Device = {
      labels: {},
      get holding() {
        return isCharging ? ['charging'] : [];
      },
    };
    const report = async (job: ReportJob, timeMs: number, signal?: AbortSignal): Promise<MadeReport> => {
      const ms = 100 + training.uniform() * 2_000;
      await time.sleep(Math.min(ms, timeMs));
      if (!this.#isAlive) return new Promise(() => {});
      signal?.throwIfAborted();
      if (job.work !== 'evaluate') throw new Error('nobody asks for that here');
      const { totals } = buildEvaluationGraph(readModel(job.graph), job.plan, 1);
      const found = job.weights.map((weights, subject) => {
        // Of the base they get half right; whether a candidate is better or much worse is in its weights.
        const right = subject === 0 ? 50 : world.isBad(weights) ? 10 : 60;
        return Object.fromEntries(totals.map(({ name, output }) => [output, [name === 'right' ? right : 100]]));
      });
      return { report: new EvaluationReports(totals, found.length).report(100, found), examples: 100, ms };
    };
    const agent = new Agent({
      device,
      options: {
        agentId: id,
        coordinator: 'the coordinator',
        signal: this.#stop.signal,
        leavesBetweenRounds: world.leaves,
      },
      crypto: nodePlatform.crypto,
      deflate: deflated,
      link: this.link,
      disk,
      trainer: { train, report },
      examples: index + 1,
      tell: (event) => {
        if (!this.#isAlive) return;
        if (event.type === 'warning' && FORGED.test(event.text)) return world.trace(`${id}: ${event.text}`);
        if (event.type === 'warning') return world.onBug(new Error(`${id}: ${event.text}`));
        if (event.type === 'failure') world.trace(`${id}: round ${event.round} fails: ${event.reason}`);
        if (event.type === 'away') world.trace(`${id}: ${event.why}, comes back in ${event.returnMs} ms`);
        if (event.type === 'disconnected') world.trace(`${id}: ${event.why}, comes back in ${event.retryMs} ms`);
      },
    });
    agent.run().catch((error: Error) => world.onBug(error));
    if (world.isUnplugged)
      this.#plug(world, random.fork('plug'), (is) => {
        isCharging = is;
        agent.conditionsChanged();
      });
  }

  #plug(world: AgentWorld, random: RandomStream, say: (isCharging: boolean) => void, isCharging = true): void {
    world.time.after(5_000 + random.uniform() * 30_000, () => {
      if (!this.#isAlive) return;
      const next = !isCharging || !world.isStormy();
      if (next !== isCharging) {
        world.trace(`a device is plugged ${next ? 'in' : 'out'}`);
        say(next);
      }
      this.#plug(world, random, say, next);
    });
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** The process dies; what is under way ends without a trace. */
  kill(): void {
    this.#isAlive = false;
    this.link.kill();
    this.#stop.abort();
  }
}
