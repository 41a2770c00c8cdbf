import { seeded } from '@commonweight/core';

export const SAMPLE_RATE = 16_000;

/** The first three resonances of five vowels in hertz: a, e, i, o, u (Peterson and Barney 1952, men, rounded). */
const VOWELS = [
  [730, 1090, 2440],
  [530, 1840, 2480],
  [270, 2290, 3010],
  [570, 840, 2410],
  [300, 870, 2240],
] as const;
const BANDWIDTH = 80;
const SYLLABLE_S = 0.2;
const NOISE = 0.002;

/**
 * Sound made as a voice makes it, in short: pulses of 90 to 180 Hz through the resonances of vowels, a new one every 0.2 s, every fourth syllable
 * silent, over soft noise. Samples at 16 kHz, at most 0.5 in size.
 */
export function speechLike(seconds: number, seed: number): Float32Array<ArrayBuffer> {
  const random = seeded(seed);
  const samples = new Float32Array(Math.round(seconds * SAMPLE_RATE));
  const syllable = SYLLABLE_S * SAMPLE_RATE;
  let [phase, pitch, loud] = [0, 0, 0];
  let vowel: Filter[] = [];
  for (let at = 0; at < samples.length; at++) {
    const within = at % syllable;
    if (within === 0) {
      vowel = VOWELS[random.integer(VOWELS.length)]!.map(resonator);
      pitch = 90 + 90 * random.uniform();
      loud = Math.floor(at / syllable) % 4 === 3 ? 0 : 1;
    }
    phase += pitch / SAMPLE_RATE;
    const pulse = phase >= 1 ? loud * Math.sin((Math.PI * within) / syllable) : 0;
    if (phase >= 1) phase -= 1;
    samples[at] = vowel.reduce((sum, filter) => sum + filter(pulse), NOISE * random.normal());
  }
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return samples.map((value) => (0.5 * value) / peak);
}

type Filter = (value: number) => number;

/** A digital resonator of two poles (Klatt 1980, equation 1). */
function resonator(frequency: number): Filter {
  const radius = Math.exp((-Math.PI * BANDWIDTH) / SAMPLE_RATE);
  const b = 2 * radius * Math.cos((2 * Math.PI * frequency) / SAMPLE_RATE);
  const c = -(radius ** 2);
  let [one, two] = [0, 0];
  return (value) => {
    const next = (1 - b - c) * value + b * one + c * two;
    [two, one] = [one, next];
    return next;
  };
}
