/**
 * Ranges of a version's activations, from agents that are free: each runs the version on its own data and sends histograms, which are added
 * up here as they come. Nothing of one agent is kept by itself, and nothing at all is used before enough of them answered.
 */
import { randomBytes } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { Calibrator, CodecError, type CalibrationMethod, type Range } from '@commonweight/core';
import {
  CALIBRATION_BINS_MAX,
  CALIBRATION_REPORT_BYTES_MAX,
  histogramsFromWire,
  SessionResponseSchema,
  type CalibrationReport,
  type SessionResponse,
  type SignedManifest,
} from '@commonweight/proto';
import type { Clock } from '../clock.ts';
import { ServiceError } from '../service.ts';

/** Agents that are asked for one version. */
const AGENTS_MAX = 16;
/** Examples that each runs the version on. */
const EXAMPLES_MAX = 256;
/** Bins where only the ends of a histogram are looked at. */
const FEW_BINS = 512;
/** How long those that were asked may take once enough have answered. */
const STRAGGLERS_MS = 10_000;
const LOOK_MS = 500;

export interface CalibrationWorld {
  clock: Clock;
  log(line: string): void;
  /** A task of the model has agents with data for it. */
  isTrained(model: string): boolean;
  /** Agents that are free, have their session here, and serve a task of the model. */
  agentsFor(model: string): readonly string[];
  send(agentId: string, message: SessionResponse): void;
}

/** A version whose ranges are wanted. */
export interface CalibrationWish {
  model: string;
  version: number;
  release: SignedManifest;
  /** Values that the static form rounds. */
  values: readonly string[];
  /** Fewer agents than this could be told from what they have in common. */
  agentsMin: number;
  /** How ranges are chosen from what all of them counted. */
  method: CalibrationMethod;
  /** How long agents may be waited for. */
  waitMs: number;
}

export interface Calibration {
  ranges: Map<string, Range>;
  method: CalibrationMethod;
  agents: number;
  examples: number;
}

interface Gathering {
  wish: CalibrationWish;
  calibrator: Calibrator;
  /** Who was asked, and whether an answer came. */
  asked: Map<string, 'waiting' | 'answered' | 'failed'>;
  agents: number;
  examples: number;
  beganMs: number;
  enoughMs: number | undefined;
  end(result: Calibration | ServiceError): void;
}

export class Calibrations {
  readonly #world: CalibrationWorld;
  readonly #gathering = new Map<string, Gathering>();
  readonly #stopLooking: () => void;

  constructor(world: CalibrationWorld) {
    this.#world = world;
    this.#stopLooking = world.clock.every(LOOK_MS, () => this.#look());
  }

  /** Throws ServiceError where no agent can, or too few answered in time, and the signal's reason. */
  async gather(wish: CalibrationWish, signal: AbortSignal): Promise<Calibration> {
    signal.throwIfAborted();
    if (!this.#world.isTrained(wish.model)) {
      throw new ServiceError(
        'invalid',
        `no agent has data for ${wish.model}, which no task trains: make its static form with \`commonweight model quantize --calibrate\``,
      );
    }
    const requestId = randomBytes(16).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<Calibration>();
    const stop = (): void => gathering.end(signal.reason as ServiceError);
    const gathering: Gathering = {
      wish,
      calibrator: new Calibrator(wish.values),
      asked: new Map(),
      agents: 0,
      examples: 0,
      beganMs: this.#world.clock.monotonicMs(),
      enoughMs: undefined,
      end: (result) => {
        this.#gathering.delete(requestId);
        signal.removeEventListener('abort', stop);
        if ('ranges' in result) resolve(result);
        else reject(result);
      },
    };
    signal.addEventListener('abort', stop, { once: true });
    this.#gathering.set(requestId, gathering);
    this.#ask(requestId, gathering);
    return promise;
  }

  /** An agent is free: it may be asked. */
  agentReady(): void {
    for (const [requestId, gathering] of this.#gathering) this.#ask(requestId, gathering);
  }

  /** Takes what an agent that was asked says; anything else is not heard. */
  receive(agentId: string, report: CalibrationReport, bytes: number): void {
    const gathering = this.#gathering.get(Buffer.from(report.requestId).toString('hex'));
    if (gathering?.asked.get(agentId) !== 'waiting') return;
    const { wish, calibrator } = gathering;
    const refuse = (why: string): void => {
      gathering.asked.set(agentId, 'failed');
      this.#world.log(
        `variants of ${wish.model}: ${agentId} did not calibrate version ${wish.version}: ${why.slice(0, 200)}`,
      );
    };
    if (report.failure !== '') return refuse(report.failure);
    if (bytes > CALIBRATION_REPORT_BYTES_MAX) return refuse(`its report has ${bytes} bytes`);
    if (report.examples < 1n || report.examples > BigInt(EXAMPLES_MAX))
      return refuse(`it ran ${report.examples} examples`);
    try {
      calibrator.addStates(histogramsFromWire(report.values));
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      return refuse(error.message);
    }
    gathering.asked.set(agentId, 'answered');
    gathering.agents += 1;
    gathering.examples += Number(report.examples);
    this.#look();
  }

  close(): void {
    this.#stopLooking();
  }

  #ask(requestId: string, gathering: Gathering): void {
    const { asked, wish } = gathering;
    for (const agentId of this.#world.agentsFor(wish.model)) {
      const useful = [...asked.values()].filter((answer) => answer !== 'failed').length;
      if (useful >= AGENTS_MAX) return;
      if (asked.has(agentId)) continue;
      asked.set(agentId, 'waiting');
      const value = {
        requestId: Buffer.from(requestId, 'hex'),
        release: wish.release,
        examplesMax: EXAMPLES_MAX,
        binsMax: wish.method === 'minmax' ? FEW_BINS : CALIBRATION_BINS_MAX,
      };
      this.#world.send(agentId, create(SessionResponseSchema, { message: { case: 'calibrationRequest', value } }));
    }
  }

  /** Ends what has enough and waits for nobody, and what has waited for too long. */
  #look(): void {
    const nowMs = this.#world.clock.monotonicMs();
    for (const gathering of [...this.#gathering.values()]) {
      const { wish, agents, examples, calibrator, asked } = gathering;
      if (agents >= wish.agentsMin) {
        gathering.enoughMs ??= nowMs;
        const isWaiting = [...asked.values()].includes('waiting');
        if (!isWaiting || nowMs - gathering.enoughMs >= STRAGGLERS_MS) {
          const { method } = wish;
          gathering.end({ ranges: calibrator.ranges({ method }), method, agents, examples });
        }
      } else if (nowMs - gathering.beganMs >= wish.waitMs) {
        gathering.end(
          new ServiceError(
            'resource-exhausted',
            `${agents} of the ${wish.agentsMin} agents that it takes calibrated version ${wish.version} of ${wish.model} within ${wish.waitMs / 1000} s: try again while more of them are connected and free`,
          ),
        );
      }
    }
  }
}
