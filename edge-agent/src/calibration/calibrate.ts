import { forkBeside } from '../training/engines/fork-source.ts';
import type { CalibrationJob, CalibrationOutcome, FromCalibration } from './messages.ts';

/** Hundreds of examples take seconds; a version that takes longer is for larger machines. */
const CALIBRATION_MS_MAX = 60_000;

/** Runs a version on some of the data in a process of its own, which ends with it. Throws an Error that says what went wrong. */
export function calibrate(job: CalibrationJob, signal: AbortSignal): Promise<CalibrationOutcome> {
  const child = forkBeside(import.meta.url, 'calibrate-process', [], { serialization: 'advanced' });
  const { promise, resolve, reject } = Promise.withResolvers<CalibrationOutcome>();
  const give = (why: string): void => {
    reject(new Error(why));
    child.kill('SIGKILL');
  };
  const timer = setTimeout(
    () => give(`calibrating took longer than ${CALIBRATION_MS_MAX / 1000} s`),
    CALIBRATION_MS_MAX,
  );
  const stop = (): void => give('the agent was stopped');
  signal.addEventListener('abort', stop, { once: true });
  child.on('message', (message: FromCalibration) => {
    if ('outcome' in message) resolve(message.outcome);
    else reject(new Error(message.failure));
  });
  child.once('exit', (code, killed) => {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    reject(new Error(`the process that calibrates ended (${killed ?? `exit code ${code}`})`));
  });
  child.send(job);
  return promise;
}
