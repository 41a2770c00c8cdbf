import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { calibrationGraph, keptRangesOf, QuantizeError, weightsFromBytes } from '@commonweight/core';
import {
  equalBytes,
  ManifestSchema,
  SignedVariantListSchema,
  VariantListSchema,
  VariantSchema,
  VariantState,
  type SignedManifest,
  type SignedVariantList,
  type Variant,
  type VariantList,
  type VariantMeasurement,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { artifact, blobOf, type RegistryReads } from '../registry/registry.ts';
import { ServiceError } from '../service.ts';
import { StoreError, type BlobRecord, type Store } from '../store/store.ts';
import type { Calibration, CalibrationWish } from './calibrations.ts';
import { CALIBRATION_AGENTS_MIN, CALIBRATION_METHOD, type VariantPolicy } from './forms.ts';
import { makeForms } from './make-forms.ts';
import type { FormMeasured, MeasurementWish } from './measurements.ts';
import { Measuring } from './measuring.ts';
import { requireMeasurement } from './standing.ts';
import { decided, isByOtherMethod, ofRelease, variantOf, type StaticRanges } from './variant-list.ts';

/** How long a version waits for agents that calibrate it. */
const CALIBRATION_WAIT_MS = 60_000;

export interface VariantsWorld {
  store: Store;
  registry: RegistryReads;
  signer: Signer;
  log(line: string): void;
  /** Asks agents for the ranges of a version. Throws ServiceError, or the signal's reason. */
  calibrate(wish: CalibrationWish, signal: AbortSignal): Promise<Calibration>;
  /** Asks agents how forms answer. Throws ServiceError, or the signal's reason. */
  measure(wish: MeasurementWish, signal: AbortSignal): Promise<FormMeasured[]>;
  /** A task of the model has agents with data for it. */
  isTrained(model: string): boolean;
  /** A commit failed. */
  failed(error: unknown): void;
}

/** What was measured of a form. */
export interface VariantReport {
  model: string;
  version: number;
  form: string;
  digest: Uint8Array;
  measurement: VariantMeasurement | undefined;
}

/** Makes forms of versions that are committed, one version at a time, and decides which of them apps may take. */
export class Variants {
  readonly #world: VariantsWorld;
  /** Models whose newest version waits for its turn. */
  readonly #wanted = new Map<string, VariantPolicy>();
  /** Models whose static form is being made, with the policy of a version that came meanwhile. */
  readonly #static = new Map<string, VariantPolicy | undefined>();
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #measuring: Measuring;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(world: VariantsWorld) {
    this.#world = world;
    const { registry, log, isTrained, measure } = world;
    const newest = async (model: string) => {
      const release = await registry.release(model, 0);
      const version = Number(fromBinary(ManifestSchema, release.manifest).version);
      return { version, release, variants: await registry.variants(model, version) };
    };
    const found = (model: string, version: number, findings: readonly FormMeasured[]): Promise<void> =>
      this.#enqueue(() => this.#found(model, version, findings));
    this.#measuring = new Measuring({ log, isTrained, newest, measure, found }, this.#closing.signal);
  }

  /** The newest version of a model is to have forms. A version that is overtaken before its turn gets none. */
  want(model: string, policy: VariantPolicy): void {
    const forms = policy.forms.filter((form) => form !== 'int8-static');
    if (forms.length > 0) this.#wantAtOnce(model, { ...policy, forms });
    if (forms.length < policy.forms.length) this.#wantStatic(model, policy);
  }

  #wantAtOnce(model: string, policy: VariantPolicy): void {
    const isWaiting = this.#wanted.has(model);
    this.#wanted.set(model, policy);
    if (isWaiting) return;
    const work = this.#enqueue(async () => {
      const newest = this.#wanted.get(model) ?? policy;
      this.#wanted.delete(model);
      await this.#make(model, 0, newest);
    });
    // A version without forms serves as it is; a store that failed was told.
    work.catch((error: unknown) => this.#world.log(`variants of ${model}: ${(error as Error).message}`));
  }

  /** One at a time for each model: agents that are asked take a while. */
  #wantStatic(model: string, policy: VariantPolicy): void {
    const isRunning = this.#static.has(model);
    this.#static.set(model, policy);
    if (isRunning) return;
    const running = this.#makeStatics(model).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #makeStatics(model: string): Promise<void> {
    for (let next = this.#static.get(model); next !== undefined; next = this.#static.get(model)) {
      this.#static.set(model, undefined);
      try {
        await this.#makeStatic(model, 0, next);
      } catch (error) {
        this.#world.log(`variants of ${model}: ${(error as Error).message}`);
      }
      if (this.#closing.signal.aborted) break;
    }
    this.#static.delete(model);
  }

  /**
   * Makes what a version lacks of the forms, and decides by the margin. Agents are asked for ranges where a form needs them; a static
   * form whose ranges were chosen by another method than the policy names is made anew.
   */
  async make(model: string, version: number, policy: VariantPolicy): Promise<SignedVariantList> {
    const forms = policy.forms.filter((form) => form !== 'int8-static');
    if (forms.length === policy.forms.length) return this.#enqueue(() => this.#make(model, version, policy));
    const { manifest } = await this.#world.registry.release(model, version);
    const number = Number(fromBinary(ManifestSchema, manifest).version);
    if (forms.length > 0) await this.#enqueue(() => this.#make(model, number, { ...policy, forms }));
    return this.#makeStatic(model, number, policy, { mayReplace: true });
  }

  /** Not in the queue, which others wait in, until the ranges are there. */
  async #makeStatic(
    model: string,
    version: number,
    policy: VariantPolicy,
    { mayReplace = false } = {},
  ): Promise<SignedVariantList> {
    const { signal } = this.#closing;
    signal.throwIfAborted();
    const release = await this.#world.registry.release(model, version);
    const number = Number(fromBinary(ManifestSchema, release.manifest).version);
    const found = (await this.#list(model, number))?.variants.find(({ name }) => name === 'int8-static');
    const replaces = mayReplace && found !== undefined && isByOtherMethod(found, policy);
    const isMade = found !== undefined && !replaces;
    const ranges = isMade ? undefined : await this.#rangesOf(release, policy);
    return this.#enqueue(() =>
      this.#make(
        model,
        number,
        { ...policy, forms: ['int8-static'] },
        ranges === undefined || !replaces ? ranges : { ...ranges, replaces },
      ),
    );
  }

  /** Those that the version keeps, or else those that agents measure. */
  async #rangesOf(release: SignedManifest, policy: VariantPolicy): Promise<StaticRanges> {
    const { registry, calibrate } = this.#world;
    const manifest = fromBinary(ManifestSchema, release.manifest);
    const graph = await registry.graph(manifest);
    const kept = keptRangesOf(graph, weightsFromBytes(await registry.blob(artifact(manifest, 'weights').digest)));
    if (kept !== undefined) return { ranges: kept };
    let values: readonly string[];
    try {
      values = calibrationGraph(graph).values;
    } catch (error) {
      // Why it cannot be made is said where it is made.
      if (error instanceof QuantizeError) return { ranges: new Map() };
      throw error;
    }
    const { ranges, ...calibration } = await calibrate(
      {
        model: manifest.model,
        version: Number(manifest.version),
        release,
        values,
        agentsMin: policy.calibrationAgentsMin ?? CALIBRATION_AGENTS_MIN,
        method: policy.calibrationMethod ?? CALIBRATION_METHOD,
        waitMs: CALIBRATION_WAIT_MS,
      },
      this.#closing.signal,
    );
    return { ranges, calibration };
  }

  /** Takes what was measured of a form, and decides by it. */
  report({ model, version, form, digest, measurement }: VariantReport): Promise<SignedVariantList> {
    return this.#enqueue(async () => {
      const measured = requireMeasurement(measurement);
      const list = await this.#list(model, version);
      const found = list?.variants.find(({ name }) => name === form);
      if (list === undefined || found === undefined) {
        throw new ServiceError(
          'not-found',
          `version ${version} of ${model} has no form "${form.slice(0, 80)}": see \`commonweight model variants ${model}\``,
        );
      }
      if (found.state === VariantState.REFUSED || !equalBytes(found.digest, digest)) {
        throw new ServiceError('invalid', `what was measured is not the ${form} of version ${version} of ${model}`);
      }
      if (found.measurement?.accuracy !== undefined && measured.accuracy === undefined) {
        throw new ServiceError(
          'invalid',
          `the accuracy of ${form} was measured on ${found.measurement.data} already: measure on data with labels`,
        );
      }
      const variants = list.variants.map((each) =>
        each === found ? create(VariantSchema, { ...each, measurement: measured }) : each,
      );
      return this.#commit({ ...list, variants }, []);
    });
  }

  /** Takes what agents found of forms that nobody measured meanwhile. */
  async #found(model: string, version: number, findings: readonly FormMeasured[]): Promise<void> {
    const list = await this.#list(model, version);
    if (list === undefined) return;
    const news = list.variants.flatMap((variant) => {
      const one = findings.find(({ form, digest }) => form === variant.name && equalBytes(digest, variant.digest));
      if (one === undefined || variant.state !== VariantState.MADE) return [];
      if ('why' in one) return one.why === variant.why ? [] : [create(VariantSchema, { ...variant, why: one.why })];
      return [create(VariantSchema, { ...variant, measurement: requireMeasurement(one.measurement) })];
    });
    if (news.length === 0) return;
    const variants = list.variants.map((variant) => news.find(({ name }) => name === variant.name) ?? variant);
    const { list: bytes } = await this.#commit({ ...list, variants }, []);
    for (const { name, state, why } of fromBinary(VariantListSchema, bytes).variants) {
      if (news.every((variant) => variant.name !== name) || state === VariantState.MADE) continue;
      const standing = state === VariantState.PUBLISHED ? 'published' : 'withheld';
      this.#world.log(`variants of ${model}: ${name} of version ${version} is ${standing}: ${why}`);
    }
  }

  /** Ends what is under way; a version that gets no forms for it is looked at again after a restart. */
  async close(): Promise<void> {
    this.#closing.abort(new ServiceError('unavailable', 'this coordinator is ending: try again'));
    await this.#queue;
    await Promise.all(this.#running);
    await this.#measuring.closed();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      this.#closing.signal.throwIfAborted();
      return work();
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /** Makes what a version lacks, and has agents measure it; nobody waits for them. */
  async #make(
    model: string,
    version: number,
    policy: VariantPolicy,
    ranges?: StaticRanges,
  ): Promise<SignedVariantList> {
    const list = await this.#made(model, version, policy, ranges);
    this.#measuring.want(model, policy.calibrationAgentsMin ?? CALIBRATION_AGENTS_MIN);
    return list;
  }

  async #made(
    model: string,
    version: number,
    policy: VariantPolicy,
    measured?: StaticRanges,
  ): Promise<SignedVariantList> {
    const { registry } = this.#world;
    const release = await registry.release(model, version);
    const manifest = fromBinary(ManifestSchema, release.manifest);
    const listed = (await this.#list(model, Number(manifest.version))) ?? create(VariantListSchema, ofRelease(release));
    const isReplaced = ({ name }: Variant): boolean => measured?.replaces === true && name === 'int8-static';
    const before = { ...listed, variants: listed.variants.filter((variant) => !isReplaced(variant)) };
    const missing = policy.forms.filter((form) => !before.variants.some(({ name }) => name === form));
    const after = { ...before, accuracyDropPointsMax: policy.accuracyDropPointsMax };
    if (missing.length === 0 && before.accuracyDropPointsMax === policy.accuracyDropPointsMax) {
      const known = await registry.variants(model, Number(manifest.version));
      if (known !== undefined) return known;
    }
    const graph = await registry.blob(artifact(manifest, 'graph').digest);
    const weights = await registry.blob(artifact(manifest, 'weights').digest);
    const { signal } = this.#closing;
    const ranges = measured === undefined ? {} : { ranges: measured.ranges };
    const made = missing.length === 0 ? [] : await makeForms({ graph, weights, forms: missing, ...ranges }, signal);
    signal.throwIfAborted();
    const blobs = made.flatMap((form) => ('onnx' in form ? [blobOf(form.onnx)] : []));
    return this.#commit(
      { ...after, variants: [...before.variants, ...made.map((form) => variantOf(form, measured?.calibration))] },
      blobs,
    );
  }

  async #list(model: string, version: number): Promise<VariantList | undefined> {
    const signed = await this.#world.registry.variants(model, version);
    return signed === undefined ? undefined : fromBinary(VariantListSchema, signed.list);
  }

  async #commit(list: VariantList, blobs: readonly BlobRecord[]): Promise<SignedVariantList> {
    const { store, signer, failed } = this.#world;
    const { model, version, accuracyDropPointsMax } = list;
    const variants = list.variants.map((variant) => decided(variant, accuracyDropPointsMax));
    const bytes = toBinary(
      VariantListSchema,
      create(VariantListSchema, { ...list, revision: list.revision + 1n, variants }),
    );
    const signature = signer.sign('VariantList', bytes);
    try {
      await store.commit({ variants: { model, version: Number(version), list: bytes, signature }, blobs });
    } catch (error) {
      // It was let go while its forms were made: nobody failed.
      if (error instanceof StoreError && error.kind === 'collected')
        throw new ServiceError('not-found', error.message, { cause: error });
      failed(error);
      throw error;
    }
    return create(SignedVariantListSchema, { list: bytes, signature, publicKey: signer.publicKey });
  }
}
