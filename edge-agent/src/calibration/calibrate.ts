import { askProcess } from '../own-process/ask.ts';
import type { CalibrationJob, CalibrationOutcome } from './messages.ts';

/** Hundreds of examples take seconds; a version that takes longer is for larger machines. */
const CALIBRATION_MS_MAX = 60_000;

/** Runs a version on some of the data in a process of its own. Throws an Error that says what went wrong. */
export const calibrate = (job: CalibrationJob, signal: AbortSignal): Promise<CalibrationOutcome> =>
  askProcess(
    { beside: import.meta.url, name: 'calibrate-process', does: 'calibrates', msMax: CALIBRATION_MS_MAX },
    job,
    signal,
  );
