import { seeded } from '@commonweight/core';
import { expect, test } from 'vitest';
import { attacks, littleEnough } from './attacks.ts';

const site = {
  own: Float32Array.of(3, -4),
  honest: [Float32Array.of(1, 2), Float32Array.of(4, 5), Float32Array.of(7, 8)],
  clients: 50,
  attackers: 12,
  random: seeded(1),
};

test('sign-flip turns the own update around', () => {
  expect(attacks['sign-flip'].forge(site, 2)).toEqual(Float32Array.of(-6, 8));
});

test("ipm and alie: ByzFL's published examples, alie on the other side of the mean", () => {
  expect(attacks.ipm.forge(site, 3)).toEqual(Float32Array.of(-12, -15));
  expect(attacks.alie.forge(site, 1.5)).toEqual(Float32Array.of(4 - 4.5, 5 - 4.5));
});

test('random is as long as it is told', () => {
  expect(Math.hypot(...attacks.random.forge(site, 2))).toBeCloseTo(10, 4);
});

test('alie goes as far as its paper says: z of the share of honest clients that must lie farther in', () => {
  // 50 clients of which 24 attack need 2 supporters of 26 honest: Φ(z) = 24/26.
  expect(littleEnough(50, 24)).toBeCloseTo(1.4261, 3);
  expect(littleEnough(50, 12)).toBeCloseTo(0.336, 3);
});
