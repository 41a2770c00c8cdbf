import { forkBeside } from '../training/engines/fork-source.ts';
import type { FromProcess } from './answer.ts';

export interface AskedProcess {
  /** `import.meta.url` of the file that the process's own lies beside, and that one's name. */
  beside: string;
  name: string;
  /** What it does, in words: "calibrates". */
  does: string;
  msMax: number;
}

/** Has a process of its own do one job, which ends with it. Throws an Error that says what went wrong. */
export function askProcess<Job extends object, Outcome>(
  { beside, name, does, msMax }: AskedProcess,
  job: Job,
  signal: AbortSignal,
): Promise<Outcome> {
  const child = forkBeside(beside, name, [], { serialization: 'advanced' });
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const give = (why: string): void => {
    reject(new Error(why));
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => give(`the process that ${does} took longer than ${msMax / 1000} s`), msMax);
  const stop = (): void => give('the agent was stopped');
  signal.addEventListener('abort', stop, { once: true });
  child.on('message', (message: FromProcess<Outcome>) => {
    if ('outcome' in message) resolve(message.outcome);
    else reject(new Error(message.failure));
  });
  child.once('error', reject);
  child.once('exit', (code, killed) => {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    reject(new Error(`the process that ${does} ended (${killed ?? `exit code ${code}`})`));
  });
  child.send(job);
  return promise;
}
