import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

interface Sample {
  atMs: number;
  rssBytes: number;
  files: number;
}

/** Whether /proc says what a process takes. */
export const canSample = (): boolean => existsSync('/proc/self/status') && existsSync('/proc/self/fd');

/** The environment in which a process writes down what of its memory is in use. */
export const measured = (file: string): Readonly<Record<string, string>> => ({
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

  /** MiB an hour by least squares over the second half: the first one warms up. */
  get rssSlopeMibPerHour(): number {
    return slopeOf(this.#second().map(({ atMs, rssBytes }) => [atMs / 3_600_000, rssBytes / 2 ** 20]));
  }

  /** The same of what is in use on and off the heap; undefined where the process does not say. */
  get liveSlopeMibPerHour(): number | undefined {
    if (this.#memoryFile === undefined || !existsSync(this.#memoryFile)) return undefined;
    const lines = readFileSync(this.#memoryFile, 'utf8').trim().split('\n');
    const points = lines
      .map((line) => line.split(' ').map(Number))
      .map(([atMs, bytes]) => [atMs! / 3_600_000, bytes! / 2 ** 20] as const);
    return slopeOf(points.slice(Math.floor(points.length / 2)));
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

/** Slope of the line of least squares; 0 for fewer than two points. */
export function slopeOf(points: readonly (readonly [number, number])[]): number {
  if (points.length < 2) return 0;
  const mean = (at: 0 | 1): number => points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  let [over, under] = [0, 0];
  for (const [x, y] of points) {
    over += (x - meanX) * (y - meanY);
    under += (x - meanX) ** 2;
  }
  return under === 0 ? 0 : over / under;
}
