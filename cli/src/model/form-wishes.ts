import {
  CALIBRATION_AGENTS_LEAST,
  CALIBRATION_AGENTS_MIN,
  CALIBRATION_AGENTS_MOST,
  variantForms,
} from '@commonweight/coordinator';
import { whole } from '../output/arguments.ts';

/** The forms that a coordinator makes, for the help of whoever asks for some. */
export const FORM_NAMES: string = `${Object.keys(variantForms).join(', ')}, with commas`;

/** The option of all who ask for forms: flag, help, and how it is read. */
export const CALIBRATION_AGENTS: readonly [flags: string, help: string, read: ReturnType<typeof whole>] = [
  '--calibration-agents-min <n>',
  `agents that it takes to calibrate int8-static, and to measure forms (${CALIBRATION_AGENTS_MIN})`,
  whole(CALIBRATION_AGENTS_LEAST, CALIBRATION_AGENTS_MOST),
];
