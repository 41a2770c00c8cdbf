import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import type { CpuBudget } from '../messages.ts';

/**
 * What an agent may use of the CPU: all physical cores but one, so that the device stays usable; `share` of them all, where it is given;
 * or so many threads. Below one core the one thread rests between steps.
 */
export function cpuBudget({ threads, share }: { threads?: number; share?: number } = {}): CpuBudget {
  const cores = physicalCores();
  if (threads !== undefined && share === undefined) return { threads, busy: 1 };
  if (share === undefined) return { threads: Math.max(1, cores - 1), busy: 1 };
  const part = share * cores;
  const count = threads ?? Math.max(1, Math.ceil(part));
  return { threads: count, busy: Math.min(1, part / count) };
}

/** Cores that this process may run on; two threads of one core count once. */
export function physicalCores(): number {
  const logical = availableParallelism();
  const perCore = threadsPerCore();
  return Math.max(1, Math.round(logical / perCore));
}

const TOPOLOGY = '/sys/devices/system/cpu';

function threadsPerCore(): number {
  if (process.platform !== 'linux') return process.arch === 'x64' && cpus().length > 1 ? 2 : 1;
  try {
    const siblings = readdirSync(TOPOLOGY)
      .filter((name) => /^cpu\d+$/.test(name))
      .map((name) => readFileSync(`${TOPOLOGY}/${name}/topology/thread_siblings_list`, 'utf8').trim());
    return siblings.length === 0 ? 1 : siblings.length / new Set(siblings).size;
  } catch {
    // No such folder in some containers: then every thread counts as a core.
    return 1;
  }
}
