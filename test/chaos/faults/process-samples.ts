import { existsSync, readdirSync, readFileSync } from 'node:fs';

interface Sample {
  atMs: number;
  rssBytes: number;
  files: number;
}

/** Whether /proc says what a process takes. */
export const canSample = (): boolean => existsSync('/proc/self/status') && existsSync('/proc/self/fd');

/** Memory and open files of a process that lives on, looked at again and again. */
export class ProcessSamples {
  readonly name: string;
  readonly #pid: number;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(name: string, pid: number, everyMs: number) {
    this.name = name;
    this.#pid = pid;
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
