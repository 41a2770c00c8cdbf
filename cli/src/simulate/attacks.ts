import type { RandomStream } from '@commonweight/core';

/** What hostile clients do: with their data, or with their updates. */
export const attackNames = ['sign-flip', 'label-flip', 'alie', 'ipm', 'random'] as const;
export type AttackName = (typeof attackNames)[number];

/** What an attacker knows: what it trained itself, and all that honest clients are about to send. */
export interface AttackSite {
  own: Float32Array;
  honest: readonly Float32Array[];
  /** Clients of the round, and how many of them attack. */
  clients: number;
  attackers: number;
  random: RandomStream;
}

interface Attack {
  /** How strong it is where nothing is said; undefined where the attack finds that out itself. */
  scale: number | undefined;
  forge(site: AttackSite, scale: number | undefined): Float32Array;
}

/** Attacks on updates; label-flip trains on wrong labels instead. */
export const attacks: Readonly<Record<Exclude<AttackName, 'label-flip'>, Attack>> = {
  /** The own update turned around and made longer. */
  'sign-flip': { scale: 10, forge: ({ own }, scale = 1) => own.map((value) => -scale * value) },
  /** Noise, so many times as long as the own update. */
  random: {
    scale: 10,
    forge: ({ own, random }, scale = 1) => {
      const noise = own.map(() => random.normal());
      const longer = (scale * norm(own)) / (norm(noise) || 1);
      return noise.map((value) => value * longer);
    },
  },
  /** "Inner product manipulation": the mean of the honest turned around. Source: Xie, Koyejo, Gupta 2020, "Fall of Empires". */
  ipm: { scale: 10, forge: ({ honest, own }, scale = 1) => meanOf(honest, own.length).map((value) => -scale * value) },
  /**
   * "A little is enough": the mean of the honest, moved by so many of their standard deviations that it still looks like one of them.
   * Source: Baruch, Baruch, Goldberg 2019, "A Little Is Enough: Circumventing Defenses For Distributed Learning", algorithm 3.
   */
  alie: {
    scale: undefined,
    forge: ({ honest, own, clients, attackers }, scale = littleEnough(clients, attackers)) => {
      const mean = meanOf(honest, own.length);
      const spread = spreadOf(honest, mean);
      return mean.map((value, i) => value - scale * (spread[i] ?? 0));
    },
  },
};

/** The largest z for which so many honest updates lie farther out that, with the attackers, they are a majority. */
export function littleEnough(clients: number, attackers: number): number {
  const supporters = Math.floor(clients / 2 + 1) - attackers;
  const honest = clients - attackers;
  return inverseNormal(Math.min(0.9999, Math.max(0.5, (honest - supporters) / honest)));
}

const norm = (vector: Float32Array): number => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));

function meanOf(rows: readonly Float32Array[], length: number): Float32Array {
  const mean = new Float64Array(length);
  for (const row of rows) for (let i = 0; i < length; i++) mean[i] = (mean[i] ?? 0) + (row[i] ?? 0) / rows.length;
  return Float32Array.from(mean);
}

/** The standard deviation of each parameter, of a sample. */
function spreadOf(rows: readonly Float32Array[], mean: Float32Array): Float32Array {
  const squares = new Float64Array(mean.length);
  for (const row of rows) {
    for (let i = 0; i < mean.length; i++) squares[i] = (squares[i] ?? 0) + ((row[i] ?? 0) - (mean[i] ?? 0)) ** 2;
  }
  return Float32Array.from(squares, (sum) => Math.sqrt(sum / Math.max(1, rows.length - 1)));
}

/** The z below which a standard normal draw is with a probability from 0.5 to 1: bisection of the tail, to 1e-9. */
function inverseNormal(probability: number): number {
  let [low, high] = [0, 10];
  while (high - low > 1e-9) {
    const middle = (low + high) / 2;
    if (normalBelow(middle) < probability) low = middle;
    else high = middle;
  }
  return low;
}

/** Probability of a standard normal draw below z >= 0. Source: Marsaglia 2004, "Evaluating the Normal Distribution". */
function normalBelow(z: number): number {
  let [term, sum] = [z, z];
  for (let i = 3; Math.abs(term) > 1e-17 * sum && i < 1000; i += 2) {
    term *= (z * z) / i;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}
