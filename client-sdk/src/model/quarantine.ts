import { readText, writeText, type Storage } from '../platform/storage.ts';

/** A release that must not serve on this runtime any more. */
export interface Quarantined {
  /** The digests of graph and weights: another version with the same bytes is the same release. */
  content: string;
  runtime: string;
  version: number;
  reason: string;
}

const ENTRIES_MAX = 64;
/** Activations of one release that ended with the end of the process, before it counts as bad. */
const CRASHES_MAX = 2;

/**
 * Which releases did not work on this device, kept over restarts, so that a bad one cannot bring an app down again and
 * again: what was being activated when the process died is counted before it is tried.
 */
export class Quarantine {
  readonly #storage: Storage;
  readonly #folder: string;
  readonly #runtime: string;
  #entries: Quarantined[];

  private constructor(storage: Storage, folder: string, runtime: string, entries: Quarantined[]) {
    this.#storage = storage;
    this.#folder = folder;
    this.#runtime = runtime;
    this.#entries = entries;
  }

  /** Another runtime than `runtime` has a quarantine of its own: what one cannot run the next one may. */
  static async open(storage: Storage, folder: string, runtime: string): Promise<Quarantine> {
    const text = await readText(storage, `${folder}/quarantine`);
    const entries = text === undefined ? [] : entriesIn(text);
    return new Quarantine(storage, folder, runtime, entries);
  }

  has(content: string): boolean {
    return this.#entries.some((entry) => entry.content === content && entry.runtime === this.#runtime);
  }

  /** On disk when this resolves; known at once. */
  async add(content: string, version: number, reason: string): Promise<void> {
    if (this.has(content)) return;
    const entry = { content, runtime: this.#runtime, version, reason };
    this.#entries = [...this.#entries, entry].slice(-ENTRIES_MAX);
    await writeText(this.#storage, `${this.#folder}/quarantine`, JSON.stringify(this.#entries));
  }

  /** Says that a release is about to be activated. False where that ended the process twice already. */
  async begin(content: string): Promise<boolean> {
    const { content: before, tries } = await this.#attempt();
    const again = before === content ? tries : 0;
    if (again >= CRASHES_MAX) return false;
    await writeText(this.#storage, `${this.#folder}/activating`, JSON.stringify({ content, tries: again + 1 }));
    return true;
  }

  /** The process lived through it. */
  ended(): Promise<void> {
    return this.#storage.remove(`${this.#folder}/activating`);
  }

  async #attempt(): Promise<{ content: string; tries: number }> {
    const none = { content: '', tries: 0 };
    const text = await readText(this.#storage, `${this.#folder}/activating`);
    if (text === undefined) return none;
    const { content, tries } = parsed(text) as Partial<Record<string, unknown>>;
    return typeof content === 'string' && typeof tries === 'number' ? { content, tries } : none;
  }
}

/** What a file says; a damaged one says nothing, and costs one more try of a bad release. */
function entriesIn(text: string): Quarantined[] {
  const value = parsed(text);
  if (!Array.isArray(value)) return [];
  const keys = ['content', 'runtime', 'reason'];
  const isEntry = (one: unknown): one is Quarantined =>
    typeof one === 'object' &&
    one !== null &&
    keys.every((key) => typeof (one as Record<string, unknown>)[key] === 'string');
  return value.filter(isEntry).slice(-ENTRIES_MAX);
}

function parsed(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
