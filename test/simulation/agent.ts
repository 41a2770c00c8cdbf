import { nodePlatform } from '@commonweight/client-sdk';
import { Agent } from '../../edge-agent/src/agent.ts';
import type { TrainingJob, TrainingResult } from '../../edge-agent/src/training/messages.ts';
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
  trace(line: string): void;
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
    const train = async ({ weights }: TrainingJob, timeMs: number): Promise<TrainingResult> => {
      const isSlow = world.isStormy() && training.uniform() < 0.1;
      const ms = 200 + training.uniform() * (isSlow ? SLOW_MS : TRAIN_MS);
      const isFailing = world.isStormy() && training.uniform() < 0.05;
      await time.sleep(Math.min(ms, timeMs));
      if (!this.#isAlive) return new Promise(() => {});
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
    const agent = new Agent({
      options: { agentId: id, coordinator: 'the coordinator', signal: this.#stop.signal },
      crypto: nodePlatform.crypto,
      link: this.link,
      disk,
      trainer: { train },
      examples: index + 1,
      tell: (event) => {
        if (!this.#isAlive) return;
        if (event.type === 'warning' && FORGED.test(event.text)) return world.trace(`${id}: ${event.text}`);
        if (event.type === 'warning') return world.onBug(new Error(`${id}: ${event.text}`));
        if (event.type === 'failure') world.trace(`${id}: round ${event.round} fails: ${event.reason}`);
        if (event.type === 'disconnected') world.trace(`${id}: ${event.why}, comes back in ${event.retryMs} ms`);
      },
    });
    agent.run().catch((error: Error) => world.onBug(error));
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
