/**
 * Made -> Published | Withheld: a form is published once it was measured and keeps to the margin. What is measured later decides anew.
 */
import { VariantState, type VariantMeasurement } from '@commonweight/proto';
import { ServiceError } from '../service.ts';

/** With fewer examples one answer more or less would be the whole margin. */
export const LABELLED_MIN = 100;
/** The bound on outputs, where accuracy is not known: what the SDK asks of a form that it makes itself. */
const DIFFERENCE_MAX = 0.05;
const AGREEMENT_MIN = 0.95;
const SOURCE_LENGTH_MAX = 200;

export interface Standing {
  state: VariantState;
  why: string;
}

/** Where a form stands by what was measured of it. */
export function standingOf(measurement: VariantMeasurement | undefined, accuracyDropPointsMax: number): Standing {
  if (measurement === undefined) return { state: VariantState.MADE, why: 'not measured yet' };
  const { data, difference, agreement, accuracy } = measurement;
  const examples = Number(measurement.examples);
  const on = `on ${examples} ${examples === 1 ? 'example' : 'examples'} of ${data}`;
  if (accuracy !== undefined && examples >= LABELLED_MIN) {
    const drop = (accuracy.float32 - accuracy.variant) * 100;
    return {
      state: drop <= accuracyDropPointsMax ? VariantState.PUBLISHED : VariantState.WITHHELD,
      why: `loses ${drop.toFixed(2)} points of accuracy ${on}, and ${accuracyDropPointsMax} are allowed`,
    };
  }
  const isClose = difference <= DIFFERENCE_MAX && agreement >= AGREEMENT_MIN;
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  const outputs = `outputs are at most ${percent(difference)} apart and agree in ${percent(agreement)} of rows ${on}`;
  return {
    state: isClose ? VariantState.PUBLISHED : VariantState.WITHHELD,
    why: `${outputs}; accuracy is not known${accuracy === undefined ? '' : ` from fewer than ${LABELLED_MIN} examples`}`,
  };
}

/** Throws ServiceError where a measurement cannot be one. */
export function requireMeasurement(measurement: VariantMeasurement | undefined): VariantMeasurement {
  const wrong = (what: string): ServiceError => new ServiceError('invalid', `the measurement ${what}`);
  if (measurement === undefined) throw wrong('is missing');
  const { data, examples, difference, agreement, accuracy } = measurement;
  if (data === '' || data.length > SOURCE_LENGTH_MAX)
    throw wrong(`must name its data in up to ${SOURCE_LENGTH_MAX} characters`);
  if (examples < 1n) throw wrong('is of no examples');
  // Infinity and NaN are findings: outputs that are not finite.
  if (difference < 0) throw wrong('has a negative difference');
  const shares = [agreement, ...(accuracy === undefined ? [] : [accuracy.float32, accuracy.variant])];
  if (!shares.every((share) => share >= 0 && share <= 1)) throw wrong('has a share that is not from 0 to 1');
  return measurement;
}
