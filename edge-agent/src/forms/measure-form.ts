import { askProcess } from '../own-process/ask.ts';
import type { FormCounts, FormJob } from './messages.ts';

/** The examples take a part of it, see measure-process.ts; the rest is for loading. */
const MEASURE_MS_MAX = 60_000;

/** Runs a form beside float32 on some of the data in a process of its own. Throws an Error that says what went wrong. */
export const measureForm = (job: FormJob, signal: AbortSignal): Promise<FormCounts> =>
  askProcess(
    { beside: import.meta.url, name: 'measure-process', does: 'measures a form', msMax: MEASURE_MS_MAX },
    job,
    signal,
  );
