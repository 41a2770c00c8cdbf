import type { CheckedReport } from './checked-report.ts';

/** Clients that are remembered. */
export const CLIENTS_MAX = 100_000;
/** A client that says nothing for so long is away. */
const AWAY_MS = 15 * 60_000;

/** What a client runs now. */
interface Present {
  id: string;
  seenMs: number;
  version: number;
  variant: string;
  runtime: string;
}

/** What of a model's clients run now, by version. */
export interface Running {
  clients: number;
  variants: Map<string, number>;
  runtimes: Map<string, number>;
}

/** Kinds of runtimes and variants that are told apart; the rest is `other`. */
const KINDS_MAX = 16;

/** Which clients there are, and what each runs. Of one client and model the last report counts. */
export class Presence {
  /** By model and client, whoever was heard of last at the end. */
  readonly #clients = new Map<string, Present>();
  readonly #clientsMax: number;

  constructor(clientsMax: number = CLIENTS_MAX) {
    this.#clientsMax = clientsMax;
  }

  get size(): number {
    return this.#clients.size;
  }

  /** `again` where the report was taken before, `full` where there is no room for one more client. */
  take(report: CheckedReport, nowMs: number): 'taken' | 'again' | 'full' {
    const { model, client, id, version, variant, runtime } = report;
    const key = `${model} ${client}`;
    const known = this.#clients.get(key);
    if (known?.id === id) return 'again';
    if (known === undefined) {
      this.look(nowMs);
      if (this.#clients.size >= this.#clientsMax) return 'full';
    }
    this.#clients.delete(key);
    this.#clients.set(key, { id, seenMs: nowMs, version, variant, runtime });
    return 'taken';
  }

  /** Forgets who is away. */
  look(nowMs: number): void {
    for (const [key, { seenMs }] of this.#clients) {
      if (nowMs - seenMs < AWAY_MS) return;
      this.#clients.delete(key);
    }
  }

  /** By version. */
  of(model: string, nowMs: number): Map<number, Running> {
    this.look(nowMs);
    const running = new Map<number, Running>();
    for (const [key, { version, variant, runtime }] of this.#clients) {
      if (!key.startsWith(`${model} `)) continue;
      let known = running.get(version);
      if (known === undefined) running.set(version, (known = { clients: 0, variants: new Map(), runtimes: new Map() }));
      known.clients += 1;
      countKind(known.variants, variant);
      countKind(known.runtimes, runtime);
    }
    return running;
  }
}

function countKind(kinds: Map<string, number>, said: string): void {
  const kind = kinds.has(said) || kinds.size < KINDS_MAX ? said || 'unknown' : 'other';
  kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
}
