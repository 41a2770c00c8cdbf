import type { ModelNeeds } from '@commonweight/core';
import type { Contract } from '../model/contract.ts';
import type { EngineName } from './engine.ts';
import type { Feeds } from './tensor.ts';

/** A form in which a version can serve. */
export type VariantName = 'fp32' | PublishableName;

/** Forms that are made here: ranges of activations measured at every run, or fixed from examples; and float16, for engines that compute in it. */
export type MadeName = 'int8-dynamic' | 'int8-static' | 'fp16';

/** Forms that the coordinator makes: of blocks, the weights alone are codes; ranges of the static one come from agents. */
export type PublishableName = MadeName | 'int8-blocks' | 'int4-blocks';

const PUBLISHABLE: readonly string[] = [
  'int8-dynamic',
  'int8-static',
  'int8-blocks',
  'int4-blocks',
  'fp16',
] satisfies PublishableName[];

/** False for forms that a newer coordinator may know. */
export const isPublishable = (name: string): name is PublishableName => PUBLISHABLE.includes(name);

/** What somebody wants: whatever is fastest, float32, or forms whose name begins so. */
export type VariantChoice = 'auto' | 'fp32' | 'int8' | 'int4' | 'fp16';

/** Whether a form is one of those that are wanted. */
export const isOf = (choice: VariantChoice, name: PublishableName): boolean =>
  choice === 'auto' || name.startsWith(choice);

/** A form that was published. */
export interface PublishedForm {
  name: PublishableName;
  /** What was measured of it, in words. */
  why: string;
  /** Undefined where the coordinator does not say it. */
  needs?: ModelNeeds;
}

/** What the coordinator says of a version's forms. */
export interface PublishedForms {
  forms: readonly (PublishedForm & { onnx: Uint8Array })[];
  /** Forms that lose too much, with the reason. */
  withheld: ReadonlyMap<string, string>;
  /** Forms that no engine here can run, which were not fetched. */
  unfit?: readonly (PublishedForm & { bytes: number; needs: ModelNeeds })[];
}

/** Which form is wanted, and what it must keep to. */
export interface VariantOptions {
  /**
   * `auto` measures and takes the fastest that keeps to the policy. `int8` and `fp16` take such a form at any speed, if it keeps to the
   * policy; so does `int4`, which is not made here.
   */
  choice: VariantChoice;
  /** Largest difference of an output, as a share of the largest of its values in float32. */
  differenceMax?: number;
  /** Least share of rows whose largest output stays in its place. */
  agreementMin?: number;
  /** Bytes that the form may have; a form that is larger is not taken. */
  bytesMax?: number;
  /** Whether requests are run together; int8-dynamic measures ranges over all rows of a run, so its rows have to run one by one. */
  batches?: boolean;
  /** Rows of real data, in which ranges are measured and outputs compared; without it, what apps asked lately. */
  examples?: (contract: Contract) => Promise<readonly Feeds[]>;
}

/** The form that serves, and why it was taken. */
export interface ServedVariant {
  name: VariantName;
  engine: EngineName;
  why: string;
  /** What was measured of each form, where anything was. */
  candidates: readonly CandidateReport[];
}

/** What is known of one form of a version, on one engine of this machine. */
export interface CandidateReport {
  name: VariantName;
  engine: EngineName;
  bytes: number;
  /** What was measured of it before it was published; without it, the form was made here. */
  published?: string;
  /** Why it was not even tried: what the engine lacks of what it needs. */
  lacks?: string;
  /** Milliseconds of a run where little comes between, by the number of rows. */
  runMs?: readonly RowTiming[];
  difference?: number;
  agreement?: number;
}

export interface RowTiming {
  rows: number;
  ms: number;
}

/** What serves where nobody asked for anything else. */
export const plainVariant = (engine: EngineName): ServedVariant => ({
  name: 'fp32',
  engine,
  why: 'the version as it was published',
  candidates: [],
});
