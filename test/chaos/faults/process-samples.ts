import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { leastOfEach, trendOf, type Point, type Trend } from './trend.ts';

interface Sample {
  atMs: number;
  rssBytes: number;
  files: number;
}

/** What a process writes of itself, in bytes: what is in use, what the system has given, and how much of each is compiled code. */
interface Written {
  live: number;
  rss: number;
  codeUsed: number;
  codeGiven: number;
}

/** Whether /proc says what a process takes. */
export const canSample = (): boolean => existsSync('/proc/self/status') && existsSync('/proc/self/fd');

const MS_IN_HOUR = 3_600_000;
const MINUTE_IN_HOURS = 1 / 60;

/** The environment in which a process writes down its memory, and gives back at once what it does not need. */
export const measured = (file: string): Readonly<Record<string, string>> => ({
  // Else glibc keeps more the more it was once asked for, and what is kept cannot be told from what is lost.
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(128 * 1024),
  NODE_OPTIONS: `--expose-gc --import ${pathToFileURL(join(import.meta.dirname, 'memory-preload.ts')).href}`,
  MEMORY_FILE: file,
});

/** Memory and open files of a process that lives on, looked at again and again. */
export class ProcessSamples {
  readonly name: string;
  readonly #pid: number;
  readonly #memoryFile: string | undefined;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  /** `memoryFile` is what a process of the environment `measured` writes. */
  constructor(name: string, pid: number, everyMs: number, memoryFile?: string) {
    this.name = name;
    this.#pid = pid;
    this.#memoryFile = memoryFile;
    this.#timer = setInterval(() => this.#take(), everyMs);
    this.#take();
  }

  #take(): void {
    try {
      const status = readFileSync(`/proc/${this.#pid}/status`, 'utf8');
      const rssBytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
      const files = readdirSync(`/proc/${this.#pid}/fd`).length;
      if (Number.isFinite(rssBytes)) this.#samples.push({ atMs: performance.now(), rssBytes, files });
    } catch (error) {
      // Gone: whoever watches it will say so.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  get rssMaxMib(): number {
    return Math.max(0, ...this.#samples.map(({ rssBytes }) => rssBytes)) / 2 ** 20;
  }

  /** Of what the system has given it, in MiB an hour over the second half: the first one warms up. Without compiled code, where the process says how much that is. */
  get rssTrend(): Trend {
    const own = this.#written(({ rss, codeGiven }) => rss - codeGiven);
    return trendOf(own ?? perMinute(this.#second().map(({ atMs, rssBytes }) => pointOf(atMs, rssBytes))));
  }

  /** The same of what is in use on and off the heap; undefined where the process does not say. */
  get liveTrend(): Trend | undefined {
    const points = this.#written(({ live, codeUsed }) => live - codeUsed);
    return points && trendOf(points);
  }

  /** Of compiled code; undefined where the process does not say. */
  get codeTrend(): Trend | undefined {
    const points = this.#written(({ codeGiven }) => codeGiven);
    return points && trendOf(points);
  }

  /** Of the second half of what the process writes, the least of each minute. */
  #written(figure: (line: Written) => number): Point[] | undefined {
    if (this.#memoryFile === undefined || !existsSync(this.#memoryFile)) return undefined;
    const lines = readFileSync(this.#memoryFile, 'utf8').trim().split('\n');
    const points = lines.slice(Math.floor(lines.length / 2)).map((line) => {
      const [atMs = NaN, live = NaN, rss = NaN, codeUsed = NaN, codeGiven = NaN] = line.split(' ').map(Number);
      return pointOf(atMs, figure({ live, rss, codeUsed, codeGiven }));
    });
    return perMinute(points);
  }

  /** Least of the last quarter less least of the third: what is open for a moment only does not count. */
  get filesGrowth(): number {
    const second = this.#second();
    const least = (samples: readonly Sample[]): number => Math.min(...samples.map(({ files }) => files));
    const half = Math.floor(second.length / 2);
    return half === 0 ? 0 : least(second.slice(half)) - least(second.slice(0, half));
  }

  #second(): readonly Sample[] {
    return this.#samples.slice(Math.floor(this.#samples.length / 2));
  }
}

const pointOf = (atMs: number, bytes: number): Point => [atMs / MS_IN_HOUR, bytes / 2 ** 20];
const perMinute = (points: readonly Point[]): Point[] => leastOfEach(points, MINUTE_IN_HOURS);
