import { playFleet, type FleetFigures, type LeavingFleet } from '../support/leaving-fleet.ts';

const FULL = { agents: 10_000, places: 1_000, rounds: 6 };
const QUICK = { agents: 2_000, places: 200, rounds: 4 };
/** As long as a coordinator holds an agent that it may need, and as often as one looks that nobody tells when to come back. */
const POLLING = { stayMs: 10_000, pollMs: 30_000 };

/**
 * Agents that leave between rounds, on virtual time: a large fleet of which each round needs a tenth, and a small one of which it needs
 * everybody. Baselines are the same agents where each of the large fleet looks every 30 s whether it is wanted, and those of the small one
 * never leave.
 */
export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const { agents, places, rounds } = quick ? QUICK : FULL;
  const trainMs = [10_000, 40_000] as const;
  const large: LeavingFleet = {
    agents,
    cohort: { min: Math.round(0.8 * places), max: places, overSelection: 1.3 },
    rounds,
    trainMs,
    comeWithinMs: 20_000,
    idle: 'told',
    endMs: 7_200_000,
  };
  const small: LeavingFleet = { ...large, agents: 10, cohort: { min: 10, max: 10 }, rounds: 10 };
  const [told, polling] = [await playFleet(large), await playFleet({ ...large, idle: POLLING })];
  const [few, staying] = [await playFleet(small), await playFleet({ ...small, idle: 'stay' })];
  return {
    agents,
    places,
    ...named('large', told),
    ...named('large_polling', polling),
    ...named('small', few),
    ...named('small_staying', staying),
    ratio_large_arrivals: told.arrivalsPerUpdate / polling.arrivalsPerUpdate,
    ratio_small_seconds: few.seconds / few.published / (staying.seconds / staying.published),
  };
}

const named = (name: string, figures: FleetFigures): Record<string, number> => ({
  [`${name}_s_per_round`]: figures.seconds / figures.published,
  [`${name}_arrivals_per_s_max`]: figures.arrivalsPerSecondMax,
  [`${name}_arrivals_per_update`]: figures.arrivalsPerUpdate,
  [`${name}_connected_share`]: figures.connectedShare,
});
