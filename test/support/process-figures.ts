import { readFileSync } from 'node:fs';
import type { Program } from './processes.ts';

/** What the kernel says of a process (Linux). */
export interface ProcessFigures {
  rssMib: number;
  /** The most that it ever had. */
  peakRssMib: number;
  /** Of all its threads, since it began. */
  cpuS: number;
}

const TICKS_PER_S = 100;

export function figuresOf({ child: { pid } }: Program): ProcessFigures {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]);
  // The name may have spaces and brackets: what follows the last bracket is counted.
  const [, fields = ''] = /\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
  const words = fields.split(' ');
  const cpuS = (Number(words[11]) + Number(words[12])) / TICKS_PER_S;
  return { rssMib: kib('VmRSS') / 1024, peakRssMib: kib('VmHWM') / 1024, cpuS };
}

/** The delay of a coordinator's event loop since its figures were last read, 99th percentile. */
export async function loopDelayMs(httpPort: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  const seconds = /^commonweight_event_loop_delay_p99_seconds (\S+)$/m.exec(text)?.[1];
  if (seconds === undefined) throw new Error('the coordinator does not say how its event loop does');
  return Number(seconds) * 1000;
}
