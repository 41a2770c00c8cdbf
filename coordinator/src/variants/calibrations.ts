/**
 * Ranges of a version's activations, from agents that are free: each runs the version on its own data and sends histograms, which are added
 * up here as they come. Nothing of one agent is kept by itself, and nothing at all is used before enough of them answered.
 */
import { create } from '@bufbuild/protobuf';
import { Calibrator, CodecError, type CalibrationMethod, type Range } from '@commonweight/core';
import {
  CALIBRATION_BINS_MAX,
  CALIBRATION_REPORT_BYTES_MAX,
  CalibrationRequestSchema,
  histogramsFromWire,
  type SignedManifest,
} from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import type { Inquiries, Inquiry } from './inquiries.ts';

/** Examples that each runs the version on. */
const EXAMPLES_MAX = 256;
/** Bins where only the ends of a histogram are looked at. */
const FEW_BINS = 512;

export interface CalibrationWorld {
  inquiries: Pick<Inquiries, 'ask'>;
  log(line: string): void;
  /** A task of the model has agents with data for it. */
  isTrained(model: string): boolean;
  /** Agents that are free, have their session here, and serve a task of the model; with `only`, whether that one is. */
  agentsFor(model: string, only?: string): readonly string[];
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

export class Calibrations {
  readonly #world: CalibrationWorld;

  constructor(world: CalibrationWorld) {
    this.#world = world;
  }

  /** Throws ServiceError where no agent can, or too few answered in time, and the signal's reason. */
  async gather(wish: CalibrationWish, signal: AbortSignal): Promise<Calibration> {
    if (!this.#world.isTrained(wish.model)) {
      throw new ServiceError(
        'invalid',
        `no agent has data for ${wish.model}, which no task trains: make its static form with \`commonweight model quantize --calibrate\``,
      );
    }
    return this.#world.inquiries.ask(this.#inquiry(wish), signal);
  }

  #inquiry(wish: CalibrationWish): Inquiry<Calibration> {
    const { agentsFor, log } = this.#world;
    const { model, version, release, values, agentsMin, method, waitMs } = wish;
    const calibrator = new Calibrator(values);
    let [agents, examples] = [0, 0];
    return {
      bytesMax: CALIBRATION_REPORT_BYTES_MAX,
      agents: (_, only) => agentsFor(model, only),
      message: (requestId) => {
        const binsMax = method === 'minmax' ? FEW_BINS : CALIBRATION_BINS_MAX;
        const value = { requestId, release, examplesMax: EXAMPLES_MAX, binsMax };
        return { case: 'calibrationRequest', value: create(CalibrationRequestSchema, value) };
      },
      take: (_, answer) => {
        if (answer.case !== 'calibrationReport') throw new CodecError('it answers something else');
        const { examples: own, values: histograms } = answer.value;
        if (own < 1n || own > BigInt(EXAMPLES_MAX)) throw new CodecError(`it ran ${own} examples`);
        calibrator.addStates(histogramsFromWire(histograms));
        agents += 1;
        examples += Number(own);
      },
      failed: (agentId, why) => log(`variants of ${model}: ${agentId} did not calibrate version ${version}: ${why}`),
      isEnough: () => agents >= agentsMin,
      lacking: (waitedMs) =>
        waitedMs < waitMs
          ? undefined
          : new ServiceError(
              'resource-exhausted',
              `${agents} of the ${agentsMin} agents that it takes calibrated version ${version} of ${model} within ${waitMs / 1000} s: try again while more of them are connected and free`,
            ),
      result: () => ({ ranges: calibrator.ranges({ method }), method, agents, examples }),
    };
  }
}
