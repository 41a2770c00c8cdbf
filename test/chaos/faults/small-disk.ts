import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

/** A disk of a few MiB in memory, mounted on a folder; undefined where this machine does not let us. */
export function mountSmallDisk(folder: string, mebibytes: number): { unmount(): void } | undefined {
  mkdirSync(folder, { recursive: true });
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', folder]);
  if (mounted.status !== 0) return undefined;
  // Lazily: a process that was killed may still be letting go of its files.
  return { unmount: () => void spawnSync('umount', ['-l', folder]) };
}
