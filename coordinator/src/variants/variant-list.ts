/** Entries of the list of a version's forms. */
import { create, fromBinary } from '@bufbuild/protobuf';
import type { Range } from '@commonweight/core';
import {
  ManifestSchema,
  needsToWire,
  VariantSchema,
  VariantState,
  type SignedManifest,
  type Variant,
} from '@commonweight/proto';
import { blobOf, sha256 } from '../registry/registry.ts';
import type { Calibration } from './calibrations.ts';
import { CALIBRATION_METHOD, type VariantPolicy } from './forms.ts';
import type { MadeForm } from './make-forms.ts';
import { standingOf } from './standing.ts';

/** What a static form rounds by, and whose data that comes from; a version's own ranges are nobody's. */
export interface StaticRanges {
  ranges: ReadonlyMap<string, Range>;
  calibration?: Pick<Calibration, 'agents' | 'examples' | 'method'>;
  /** The form is there already, and is to be made anew. */
  replaces?: true;
}

/** What a list of forms says of the version that they are of. */
export function ofRelease({ manifest: bytes }: SignedManifest): {
  model: string;
  version: bigint;
  manifestDigest: Uint8Array;
} {
  const { model, version } = fromBinary(ManifestSchema, bytes);
  return { model, version, manifestDigest: sha256(bytes) };
}

/** A form that was just made, or could not be. */
export function variantOf(form: MadeForm, calibration: StaticRanges['calibration']): Variant {
  const { name } = form;
  if ('refused' in form) return create(VariantSchema, { name, state: VariantState.REFUSED, why: form.refused });
  const { digest, data } = blobOf(form.onnx);
  const made = { name, digest, size: BigInt(data.length), needs: needsToWire(form.needs) };
  if (calibration === undefined) return create(VariantSchema, made);
  const { agents, examples, method } = calibration;
  return create(VariantSchema, {
    ...made,
    calibration: { agents: BigInt(agents), examples: BigInt(examples), method },
  });
}

/** Whether agents' counts gave the ranges of a form in another way than the policy names. What a version keeps itself is no choice. */
export function isByOtherMethod({ calibration }: Variant, { calibrationMethod }: VariantPolicy): boolean {
  if (calibration === undefined || calibrationMethod === undefined) return false;
  return (calibration.method || CALIBRATION_METHOD) !== calibrationMethod;
}

/** A form as what was measured of it decides. */
export function decided(variant: Variant, accuracyDropPointsMax: number): Variant {
  const { state, measurement, why } = variant;
  // What keeps agents from measuring it is known better than that nobody did.
  if (state === VariantState.REFUSED || (measurement === undefined && why !== '')) return variant;
  return create(VariantSchema, { ...variant, ...standingOf(measurement, accuracyDropPointsMax) });
}
