/** Agents that were sent away come back about this many a second. */
const RETURNS_PER_SECOND = 500;
const RETURN_MS_MIN = 500;
/** The longest that an agent is sent away for: whatever is planned, an operator may change it. */
export const RETURN_MS_MAX = 600_000;

/**
 * How many agents were told to come back in each second that comes: a time that is drawn moves to the next second that has room, so that
 * no second has more than the rate, whatever was known of the fleet when its agents were told.
 */
export class ReturnCalendar {
  /** Agents by the second, since 1970. */
  readonly #told = new Map<number, number>();

  /** Puts a return down; gives after how many milliseconds it is to be. */
  put(afterMs: number, nowMs: number): number {
    this.#forget(nowMs);
    const wanted = Math.floor((nowMs + afterMs) / 1000);
    let second = wanted;
    while ((this.#told.get(second) ?? 0) >= RETURNS_PER_SECOND) second++;
    this.#told.set(second, (this.#told.get(second) ?? 0) + 1);
    return afterMs + 1000 * (second - wanted);
  }

  #forget(nowMs: number): void {
    for (const second of this.#told.keys()) if (second < Math.floor(nowMs / 1000)) this.#told.delete(second);
  }
}

/** The time in which so many agents come back, one after the other. */
const spreadMs = (agents: number): number => (1000 * agents) / RETURNS_PER_SECOND;

/** When one of so many agents is to come back: each is told another time, so that they do not all come at once. */
export const returnAfterMs = (agents: number): number => Math.ceil(RETURN_MS_MIN + Math.random() * spreadMs(agents));

/** When a task wants agents next. */
export interface Call {
  inMs: number;
  /** Agents that it can use then. */
  places: number;
  /** From one such time to the next. */
  periodMs: number;
}

/** More agents come than there are places: some are late, and some find theirs taken. */
const HEADROOM = 1.5;

/**
 * When one of a fleet of so many agents is to come back for a call, or without one. A fleet that has few agents comes as one, just before
 * it is needed, so that the minimum meets. Of a large one as many come for each call as it has places, and no more than so many a second:
 * which call is an agent's is drawn. Nothing is remembered of who was told what. Source: Bonawitz et al. 2019, "Towards Federated
 * Learning at Scale: System Design", section 2.3 (pace steering).
 */
export function returnFor(
  call: Call | undefined,
  { agents, nowMs, uniform = Math.random }: { agents: number; nowMs: number; uniform?: () => number },
): number {
  if (call === undefined) return returnBy(rendezvousInMs(agents, nowMs), agents, uniform);
  // A count of a moment ago may be from before the first one came.
  const fleet = Math.max(1, agents);
  const comers = Math.min(fleet, Math.ceil(call.places * HEADROOM));
  const wanted = Math.max(1, Math.round(fleet / comers));
  // All who come for one call do so before those of the next.
  const periodMs = Math.max(call.periodMs, spreadMs(fleet / wanted), 1);
  const firstMs = Math.max(call.inMs, RETURN_MS_MIN + spreadMs(fleet / wanted));
  const reached = 1 + Math.max(0, Math.floor((RETURN_MS_MAX - firstMs) / periodMs));
  const turns = Math.min(wanted, reached);
  return returnBy(firstMs + Math.floor(uniform() * turns) * periodMs, fleet / turns, uniform);
}

/** Some time in the spread before an instant; where that is further away than agents are sent, on the way to it. */
function returnBy(inMs: number, comers: number, uniform: () => number): number {
  const latestMs = Math.max(Math.min(inMs, RETURN_MS_MAX), RETURN_MS_MIN + spreadMs(comers));
  const earliestMs = inMs > RETURN_MS_MAX ? RETURN_MS_MAX / 2 : latestMs - spreadMs(comers);
  return Math.ceil(earliestMs + uniform() * (latestMs - earliestMs));
}

/** Those who wait meet this often, a small fleet more often than a large one. */
const RENDEZVOUS_MS = 20_000;
const RENDEZVOUS_PER_SECOND = 50;

/**
 * How long it is until all meet who have nothing to do: a multiple of a period on the clock, the same for all who ask before it. Periods
 * are doubled, so that who takes a fleet for larger meets the others all the same.
 */
function rendezvousInMs(agents: number, nowMs: number): number {
  let periodMs = RENDEZVOUS_MS;
  while (periodMs < (1000 * agents) / RENDEZVOUS_PER_SECOND && 2 * periodMs < RETURN_MS_MAX) periodMs *= 2;
  return periodMs - (nowMs % periodMs);
}
