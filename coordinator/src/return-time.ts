/** Agents that were sent away come back about this many a second. */
const RETURNS_PER_SECOND = 500;
const RETURN_MS_MIN = 500;

/** When one of so many agents is to come back: each is told another time, so that they do not all come at once. */
export const returnAfterMs = (agents: number): number =>
  Math.ceil(RETURN_MS_MIN + (Math.random() * 1000 * agents) / RETURNS_PER_SECOND);
