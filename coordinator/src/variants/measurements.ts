/**
 * How a version's forms answer beside float32, from agents that are free: each runs them on its own data and sends counts, which add up. Where an
 * evaluator that a task of the model names is free, it alone is asked, and one is enough.
 */
import { create } from '@bufbuild/protobuf';
import { CodecError } from '@commonweight/core';
import {
  MEASUREMENT_REPORT_BYTES_MAX,
  MeasurementRequestSchema,
  type SignedManifest,
  type SignedVariantList,
  type Variant,
  type VariantMeasurement,
} from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import { FormTally } from './form-tally.ts';
import type { Inquiries, Inquiry } from './inquiries.ts';

/** Examples that one agent runs, and so the most that it weighs. */
const EXAMPLES_MAX = 1_000;
/** An evaluator has more, and there is nobody else to weigh it against. */
const EVALUATOR_EXAMPLES_MAX = 10_000;
/** How long it may be before it is said that too few answer. */
const WAIT_MS = 60_000;
/** How long agents that come free are asked for one version. */
const PATIENCE_MS = 3_600_000;

/** What the tasks of a model say of its examples. */
export interface ExamplesAsked {
  /** The share that agents set aside. */
  holdOut: number;
  /** Labels are classes. */
  classes: boolean;
}

export interface MeasurementWorld {
  inquiries: Pick<Inquiries, 'ask'>;
  log(line: string): void;
  /** Evaluators, or else others, that can measure, are free, have their session here, and serve a task of the model; with `only`, whether that one does. */
  evaluatorsFor(model: string, only?: string): readonly string[];
  agentsFor(model: string, only?: string): readonly string[];
  examplesOf(model: string): ExamplesAsked;
}

/** A version with forms that nobody measured. */
export interface MeasurementWish {
  model: string;
  version: number;
  release: SignedManifest;
  variants: SignedVariantList;
  forms: readonly Variant[];
  agentsMin: number;
  /** Something else waits to be measured: it is not worth while to wait for long. */
  isOvertaken(): boolean;
  /** Too few answered for now. */
  onLate(why: string): void;
}

/** What came of one form. */
export type FormMeasured = { form: string; digest: Uint8Array } & (
  { measurement: VariantMeasurement } | { why: string }
);

export class Measurements {
  readonly #world: MeasurementWorld;

  constructor(world: MeasurementWorld) {
    this.#world = world;
  }

  /** Throws ServiceError where too few answered, and the signal's reason. */
  gather(wish: MeasurementWish, signal: AbortSignal): Promise<FormMeasured[]> {
    return this.#world.inquiries.ask(this.#inquiry(wish), signal);
  }

  #inquiry(wish: MeasurementWish): Inquiry<FormMeasured[]> {
    const { agentsFor, evaluatorsFor, examplesOf, log } = this.#world;
    const { model, version, release, variants, agentsMin } = wish;
    const forms = wish.forms.map(({ name }) => name);
    const { holdOut, classes } = examplesOf(model);
    const judges = new Set<string>();
    const judged = new FormTally(forms, EVALUATOR_EXAMPLES_MAX);
    const common = new FormTally(forms, EXAMPLES_MAX);
    let isTold = false;
    return {
      bytesMax: MEASUREMENT_REPORT_BYTES_MAX,
      agents: (asked, only) => {
        const evaluators = evaluatorsFor(model, only).filter((agentId) => asked(agentId) !== 'failed');
        const isJudged = [...judges].some((agentId) => ['waiting', 'answered'].includes(asked(agentId) ?? ''));
        return isJudged || evaluators.length > 0 ? evaluators : agentsFor(model, only);
      },
      message: (requestId, agentId) => {
        const isJudge = evaluatorsFor(model, agentId).length > 0;
        if (isJudge) judges.add(agentId);
        const examplesMax = isJudge ? EVALUATOR_EXAMPLES_MAX : EXAMPLES_MAX;
        const value = { requestId, release, variants, forms, examplesMax, holdOut, classes };
        return { case: 'measurementRequest', value: create(MeasurementRequestSchema, value) };
      },
      take: (agentId, answer) => {
        if (answer.case !== 'measurementReport') throw new CodecError('it answers something else');
        (judges.has(agentId) ? judged : common).add(answer.value.forms);
      },
      failed: (agentId, why) => log(`variants of ${model}: ${agentId} did not measure version ${version}: ${why}`),
      isEnough: () => judged.agents > 0 || common.agents >= agentsMin,
      lacking: (waitedMs) => {
        if (waitedMs < WAIT_MS) return undefined;
        const found = `${common.agents} of the ${agentsMin} agents that it takes measured it within ${WAIT_MS / 1000} s`;
        if (!isTold) wish.onLate(`not measured yet: ${found}, and no evaluator did`);
        isTold = true;
        if (waitedMs < PATIENCE_MS && !wish.isOvertaken()) return undefined;
        return new ServiceError('resource-exhausted', `version ${version} was not measured: too few agents answered`);
      },
      result: () => {
        const isJudged = judged.agents > 0;
        const [tally, least] = isJudged ? [judged, 1] : [common, agentsMin];
        return wish.forms.map(({ name: form, digest }) => {
          const measurement = tally.measurement(form, least, (agents) => dataOf(agents, isJudged, holdOut));
          if (measurement !== undefined) return { form, digest, measurement };
          const why = tally.failure(form)?.slice(0, 200) ?? 'too few ran it';
          return { form, digest, why: `not measured yet: ${why}` };
        });
      },
    };
  }
}

function dataOf(agents: number, isJudged: boolean, holdOut: number): string {
  const whose = isJudged ? 'evaluator' : 'agent';
  const data = isJudged ? 'data' : holdOut > 0 ? 'held-out data' : 'own data';
  return `${agents} ${whose}${agents === 1 ? "'s" : "s'"} ${data}`;
}
