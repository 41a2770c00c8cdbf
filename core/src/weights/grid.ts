import { ConfigError } from '../errors.ts';

/** The grid that all updates of a round lie on, and the caps that make their sum exact in 64 bits. */
export interface GridSpec {
  /** Values are integers times 2^lsbExponent. */
  lsbExponent: number;
  /** |value| <= 2^valueMaxExponent. */
  valueMaxExponent: number;
  /** Largest weight of one update, a whole number. */
  weightMax: number;
  /** Largest number of updates in one sum. */
  cohortMax: number;
}

/** Bits that one weighted value may take: sums of that size are exact in float64 arithmetic with room for rounding. */
const TERM_BITS = 51;
/** Bits that a sum may take: int64 without its sign. */
const SUM_BITS = 63;
/** Weights up to this are multiplied with an int8 in 32 bits. */
const WEIGHT_MAX = 2 ** 23;
/** Finest step that is useful: float32 deltas below it do not change float32 weights of ordinary size. */
const LSB_EXPONENT_MIN = -64;
/** Coarsest step that still trains: a thousandth of a thousandth. */
const LSB_EXPONENT_MAX = -16;

/** The finest grid on which neither a term nor a sum can overflow. Throws ConfigError where there is none worth having. */
export function gridFor(caps: { valueMaxExponent: number; weightMax: number; cohortMax: number }): GridSpec {
  const { valueMaxExponent, weightMax, cohortMax } = caps;
  if (!Number.isInteger(valueMaxExponent) || Math.abs(valueMaxExponent) > 32) {
    throw new ConfigError(
      `valueMaxExponent is ${valueMaxExponent}: give a whole number from -32 to 32`,
      'valueMaxExponent',
    );
  }
  if (!Number.isInteger(weightMax) || weightMax < 1 || weightMax > WEIGHT_MAX) {
    throw new ConfigError(`weightMax is ${weightMax}: give a whole number from 1 to ${WEIGHT_MAX}`, 'weightMax');
  }
  if (!Number.isInteger(cohortMax) || cohortMax < 1 || cohortMax > 2 ** 31) {
    throw new ConfigError(`cohort.max is ${cohortMax}: give a whole number from 1 to ${2 ** 31}`, 'cohort.max');
  }
  const weightBits = Math.ceil(Math.log2(weightMax));
  const cohortBits = Math.ceil(Math.log2(cohortMax + 1));
  const valueBits = Math.min(TERM_BITS - weightBits, SUM_BITS - weightBits - cohortBits);
  const lsbExponent = Math.max(valueMaxExponent - valueBits, LSB_EXPONENT_MIN);
  if (lsbExponent > LSB_EXPONENT_MAX) {
    throw new ConfigError(
      `a sum of ${cohortMax} updates of weight up to ${weightMax} and values up to 2^${valueMaxExponent} would leave steps of ` +
        `2^${lsbExponent}, too coarse to train: lower weightMax, cohort.max or valueMaxExponent`,
      'weightMax',
    );
  }
  return { lsbExponent, valueMaxExponent, weightMax, cohortMax };
}
