import { create } from '@bufbuild/protobuf';
import { CodecError, type HistogramState } from '@commonweight/core';
import { ValueHistogramSchema, type ValueHistogram } from '../gen/commonweight/v1/agent_pb.ts';
import { CALIBRATION_BINS_MAX, CALIBRATION_VALUES_MAX } from './limits.ts';

export function histogramsToWire(states: ReadonlyMap<string, HistogramState>): ValueHistogram[] {
  return Array.from(states, ([value, { exponent, first, counts, min, max }]) =>
    create(ValueHistogramSchema, {
      value,
      exponent,
      first: BigInt(first),
      counts: Array.from(counts, BigInt),
      min,
      max,
    }),
  );
}

/** Histograms by value. Throws CodecError where there are too many, or one has too many bins; what they hold is for core to judge. */
export function histogramsFromWire(values: readonly ValueHistogram[]): Map<string, HistogramState> {
  if (values.length > CALIBRATION_VALUES_MAX) throw new CodecError(`${values.length} values are too many`);
  const states = new Map<string, HistogramState>();
  for (const { value, exponent, first, counts, min, max } of values) {
    const name = value.slice(0, 80);
    if (counts.length > CALIBRATION_BINS_MAX) throw new CodecError(`value '${name}' has ${counts.length} bins`);
    if (states.has(value)) throw new CodecError(`value '${name}' comes twice`);
    states.set(value, { exponent, first: Number(first), counts: Float64Array.from(counts, Number), min, max });
  }
  return states;
}
