import type { Program } from '../../support/processes.ts';

/** How long a process may take to end in order. */
const END_MS = 30_000;

/** Ends a program; false where it had to be killed because it did not obey in time. */
export async function endWithin(program: Program, signal: NodeJS.Signals): Promise<boolean> {
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    program.child.kill('SIGKILL');
  }, END_MS);
  await program.end(signal);
  clearTimeout(timer);
  return !isLate;
}
