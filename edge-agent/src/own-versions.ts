import { create, toBinary } from '@bufbuild/protobuf';
import {
  CodecError,
  coarseHistograms as coarse,
  joinModel,
  readModel,
  weightsFromBytes,
  type HistogramState,
} from '@commonweight/core';
import { asError } from '@commonweight/client-sdk';
import {
  CALIBRATION_BINS_MAX,
  CALIBRATION_REPORT_BYTES_MAX,
  CalibrationReportSchema,
  equalBytes,
  FormFindingSchema,
  histogramsToWire,
  MEASUREMENT_FORMS_MAX,
  openManifest,
  openVariantList,
  type Artifact,
  type CalibrationReport,
  type CalibrationRequest,
  type FormFinding,
  type Manifest,
  type MeasurementReport,
  type MeasurementRequest,
  type SignedManifest,
  type SignedVariantList,
  type ValueHistogram,
  type Variant,
} from '@commonweight/proto';
import { artifactOf } from './artifact-of.ts';
import type { CalibrationJob, CalibrationOutcome } from './calibration/messages.ts';
import type { AgentEvent } from './events.ts';
import type { FormCounts, FormJob } from './forms/messages.ts';
import type { SessionMessage } from './link/agent-link.ts';

/** Examples that a coordinator may ask to run a version on, and a form beside it. */
const CALIBRATION_EXAMPLES_MAX = 4_096;
const MEASUREMENT_EXAMPLES_MAX = 10_000;
const FAILURE_LENGTH_MAX = 500;

/** Runs a version on some of an agent's data. Throws an Error that says what went wrong. */
export type Calibrate = (job: Pick<CalibrationJob, 'onnx' | 'examplesMax' | 'binsMax'>) => Promise<CalibrationOutcome>;
/** Runs a form beside float32 on some of an agent's data. Throws an Error that says what went wrong. */
export type MeasureForm = (job: Omit<FormJob, 'data' | 'threads'>) => Promise<FormCounts>;

/** What it takes to run versions on an agent's own data; an agent without one of them does not do that. */
export interface Willing {
  calibrate?: Calibrate;
  measureForm?: MeasureForm;
}

interface OwnVersionsWorld extends Willing {
  /** Measures with all that it has. */
  isEvaluator: boolean;
  /** The coordinator's key, once it is known. */
  key(): Uint8Array | undefined;
  /** Whether what is signed is so by that key. */
  isGenuine(kind: 'Manifest' | 'VariantList', payload: Uint8Array, signed: Signed): Promise<boolean>;
  sha256(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array;
  blob(artifact: Artifact): Promise<Uint8Array>;
  /** A blob that is not kept. */
  download(blob: Pick<Variant, 'digest' | 'size'>): Promise<Uint8Array>;
  say(message: SessionMessage): void;
  tell(event: AgentEvent): void;
}
type Signed = Pick<SignedManifest, 'publicKey' | 'signature'>;

/** Runs versions on the agent's own data for a coordinator that asks, and says counts alone of it. One at a time. */
export class OwnVersions {
  readonly #world: OwnVersionsWorld;
  #isBusy = false;

  constructor(world: OwnVersionsWorld) {
    this.#world = world;
  }

  /** Answers how large a version's activations are. */
  calibrate({ requestId, release, examplesMax, binsMax }: CalibrationRequest): Promise<void> {
    const { calibrate: run, say, tell } = this.#world;
    const answer = (report: Partial<Pick<CalibrationReport, 'examples' | 'values' | 'failure'>>): void =>
      say({ case: 'calibrationReport', value: { requestId, ...report } });
    if (run === undefined) return Promise.resolve(answer({ failure: 'it does not calibrate' }));
    return this.#alone(answer, async () => {
      const manifest = await this.#manifest(release);
      const { examples, states } = await run({
        onnx: await this.#float32(manifest),
        examplesMax: within(examplesMax, CALIBRATION_EXAMPLES_MAX),
        binsMax: Math.min(Math.max(2, binsMax), CALIBRATION_BINS_MAX),
      });
      answer({ examples: BigInt(examples), values: fitting(states) });
      tell({ type: 'calibrated', model: manifest.model, version: Number(manifest.version), examples });
    });
  }

  /** Answers how a version's forms do beside float32; one that cannot be run says why, and the others are measured all the same. */
  measure(request: MeasurementRequest): Promise<void> {
    const { measureForm: run, say, tell } = this.#world;
    const { requestId, release } = request;
    const answer = (report: Partial<Pick<MeasurementReport, 'forms' | 'failure'>>): void =>
      say({ case: 'measurementReport', value: { requestId, ...report } });
    if (run === undefined) return Promise.resolve(answer({ failure: 'it does not measure forms' }));
    return this.#alone(answer, async () => {
      const manifest = await this.#manifest(release);
      const variants = await this.#variants(request, manifest);
      const float32 = await this.#float32(manifest);
      const forms: FormFinding[] = [];
      for (const variant of variants) forms.push(await this.#finding(variant, float32, request, run));
      answer({ forms });
      const examples = Math.max(...forms.map((finding) => Number(finding.examples)));
      const names = forms.filter(({ failure }) => failure === '').map(({ form }) => form);
      const { model, version } = manifest;
      if (names.length > 0) tell({ type: 'measured', model, version: Number(version), forms: names, examples });
    });
  }

  async #finding(
    variant: Variant,
    float32: Uint8Array,
    request: MeasurementRequest,
    run: MeasureForm,
  ): Promise<FormFinding> {
    const { name: form } = variant;
    const { holdOut, classes, examplesMax } = request;
    try {
      const { labelled, difference, ...counts } = await run({
        float32,
        form: await this.#world.download(variant),
        examplesMax: within(examplesMax, MEASUREMENT_EXAMPLES_MAX),
        holdOut: this.#world.isEvaluator || !(holdOut > 0 && holdOut < 1) ? 0 : holdOut,
        classes,
      });
      const { examples, float32Right, right, rows, agreeing } = counts;
      return create(FormFindingSchema, {
        form,
        labelled,
        difference,
        examples: BigInt(examples),
        float32Right: BigInt(float32Right),
        right: BigInt(right),
        rows: BigInt(rows),
        agreeing: BigInt(agreeing),
      });
    } catch (error) {
      return create(FormFindingSchema, { form, failure: asError(error).message.slice(0, FAILURE_LENGTH_MAX) });
    }
  }

  async #alone(answer: (report: { failure: string }) => void, work: () => Promise<void>): Promise<void> {
    if (this.#isBusy) return answer({ failure: 'it runs another version at the moment' });
    this.#isBusy = true;
    try {
      await work();
    } catch (error) {
      answer({ failure: asError(error).message.slice(0, FAILURE_LENGTH_MAX) });
    } finally {
      this.#isBusy = false;
    }
  }

  /** The manifest of the version that is asked of, once its signature was checked. */
  async #manifest(release: SignedManifest | undefined): Promise<Manifest> {
    const key = this.#world.key();
    if (release === undefined || key === undefined) throw new CodecError('the request names no version');
    const isGenuine = await this.#world.isGenuine('Manifest', release.manifest, release);
    return openManifest(release, key, () => isGenuine);
  }

  /** The forms that are asked of, once it was checked that they are signed, and that version's. */
  async #variants({ release, variants: signed, forms }: MeasurementRequest, { version }: Manifest): Promise<Variant[]> {
    const key = this.#world.key();
    if (signed === undefined || release === undefined || key === undefined || forms.length === 0)
      throw new CodecError('the request names no forms');
    if (forms.length > MEASUREMENT_FORMS_MAX) throw new CodecError(`${forms.length} forms are too many to measure`);
    const isGenuine = await this.#world.isGenuine('VariantList', signed.list, signed);
    const list = openVariantList(signed satisfies SignedVariantList, key, () => isGenuine);
    if (!equalBytes(list.manifestDigest, await this.#world.sha256(release.manifest)))
      throw new CodecError(`the forms are not those of version ${version}`);
    return forms.map((form) => {
      const variant = list.variants.find(({ name }) => name === form);
      if (variant === undefined) throw new CodecError(`version ${version} has no form "${form.slice(0, 80)}"`);
      return variant;
    });
  }

  async #float32(manifest: Manifest): Promise<Uint8Array> {
    const graph = await this.#world.blob(artifactOf(manifest, 'graph'));
    const weights = weightsFromBytes(await this.#world.blob(artifactOf(manifest, 'weights')));
    return joinModel(readModel(graph), weights);
  }
}

const within = (asked: number, most: number): number => Math.min(Math.max(1, asked), most);

/** The histograms as a report takes them: with wider bins where they would be too many bytes. */
function fitting(states: ReadonlyMap<string, HistogramState>): ValueHistogram[] {
  const largest = Math.max(2, ...Array.from(states.values(), ({ counts }) => counts.length));
  for (let binsMax = largest; ; binsMax = Math.ceil(binsMax / 2)) {
    const values = histogramsToWire(coarse(states, binsMax));
    const { length } = toBinary(CalibrationReportSchema, create(CalibrationReportSchema, { values }));
    if (length <= CALIBRATION_REPORT_BYTES_MAX - 1024) return values;
    if (binsMax <= 2) throw new CodecError(`the model has ${values.length} values to calibrate, too many for a report`);
  }
}
