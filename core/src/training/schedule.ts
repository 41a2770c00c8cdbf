/** How the learning rate goes over the local steps of a round. */
export interface Schedule {
  name: 'constant' | 'step' | 'cosine' | 'linear';
  /** The rate rises from zero to its full height over these first steps (Goyal et al. 2017). */
  warmUpSteps?: number;
  /** `step`: the rate is multiplied by `factor` every so many steps. */
  everySteps?: number;
  factor?: number;
  /** `cosine`, `linear`: the share of the rate that is left at the last step. */
  floor?: number;
}

/** The share of the learning rate at a step, counted from 0, of `steps` in all. Cosine: Loshchilov and Hutter 2017, without restarts. */
export function rateFactor(schedule: Schedule, step: number, steps: number): number {
  const { warmUpSteps = 0, everySteps = 1, factor = 0.1, floor = 0 } = schedule;
  const rise = step < warmUpSteps ? (step + 1) / (warmUpSteps + 1) : 1;
  const done = Math.min(1, Math.max(0, step - warmUpSteps) / Math.max(1, steps - warmUpSteps - 1));
  switch (schedule.name) {
    case 'constant':
      return rise;
    case 'step':
      return rise * factor ** Math.floor(Math.max(0, step - warmUpSteps) / everySteps);
    case 'linear':
      return rise * (1 - (1 - floor) * done);
    case 'cosine':
      return rise * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * done))) / 2);
  }
}
