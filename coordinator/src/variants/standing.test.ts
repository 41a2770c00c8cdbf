import { create } from '@bufbuild/protobuf';
import { VariantMeasurementSchema, VariantState, type VariantMeasurement } from '@commonweight/proto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { requireMeasurement, standingOf } from './standing.ts';

const measured = (changes: Partial<Omit<VariantMeasurement, '$typeName' | '$unknown'>> = {}): VariantMeasurement =>
  create(VariantMeasurementSchema, { data: 'digits', examples: 1000n, difference: 0.01, agreement: 1, ...changes });
const accuracy = (float32: number, variant: number) =>
  measured({ accuracy: { $typeName: 'commonweight.v1.VariantAccuracy', float32, variant } });

test('a form that nobody measured is made, and not published', () => {
  expect(standingOf(undefined, 0.5)).toEqual({ state: VariantState.MADE, why: 'not measured yet' });
});

test('accuracy within the margin publishes, beyond it withholds', () => {
  expect(standingOf(accuracy(0.92, 0.917), 0.5)).toEqual({
    state: VariantState.PUBLISHED,
    why: 'loses 0.30 points of accuracy on 1000 examples of digits, and 0.5 are allowed',
  });
  expect(standingOf(accuracy(0.92, 0.91), 0.5).state).toBe(VariantState.WITHHELD);
});

test('without labels the outputs decide, and that is said', () => {
  expect(standingOf(measured(), 0.5)).toEqual({
    state: VariantState.PUBLISHED,
    why: 'outputs are at most 1.0 % apart and agree in 100.0 % of rows on 1000 examples of digits; accuracy is not known',
  });
  expect(standingOf(measured({ difference: 0.06 }), 0.5).state).toBe(VariantState.WITHHELD);
  expect(standingOf(measured({ agreement: 0.94 }), 0.5).state).toBe(VariantState.WITHHELD);
  expect(standingOf(measured({ difference: NaN }), 0.5).state).toBe(VariantState.WITHHELD);
});

test('labels of too few examples decide nothing', () => {
  const few = { ...accuracy(1, 0.5), examples: 99n };
  expect(standingOf(few, 0.5)).toMatchObject({
    state: VariantState.PUBLISHED,
    why: expect.stringContaining('accuracy is not known from fewer than 100 examples') as string,
  });
});

test('a form that answers better is published at any margin, and a wider margin withholds no more', () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(share, share, fc.double({ min: 0, max: 100, noNaN: true }), (float32, variant, margin) => {
      const { state } = standingOf(accuracy(float32, variant), margin);
      if (variant >= float32) expect(state).toBe(VariantState.PUBLISHED);
      if (state === VariantState.PUBLISHED) {
        expect(standingOf(accuracy(float32, variant), margin + 1).state).toBe(VariantState.PUBLISHED);
      }
    }),
  );
});

test.each([
  ['is missing', undefined],
  ['must name its data', measured({ data: '' })],
  ['must name its data', measured({ data: 'x'.repeat(201) })],
  ['is of no examples', measured({ examples: 0n })],
  ['negative difference', measured({ difference: -1 })],
  ['not from 0 to 1', measured({ agreement: 1.1 })],
  ['not from 0 to 1', accuracy(0.9, NaN)],
])('a measurement that %s is refused', (words, measurement) => {
  expect(() => requireMeasurement(measurement)).toThrow(words);
});
