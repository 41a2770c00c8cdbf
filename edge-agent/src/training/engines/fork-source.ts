import { fork, type ChildProcess, type ForkOptions } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Starts a file beside `base` as a process with a channel: its source where this is one, else what was built of it. */
export function forkBeside(base: string, name: string, args: readonly string[], options: ForkOptions): ChildProcess {
  const isSource = base.endsWith('.ts');
  const execArgv = [
    '--disable-warning=ExperimentalWarning',
    ...(isSource ? ['--conditions=@commonweight/source'] : []),
  ];
  const file = fileURLToPath(new URL(`./${name}.${isSource ? 'ts' : 'js'}`, base));
  return fork(file, args, { execArgv, ...options });
}
