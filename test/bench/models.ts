/**
 * Models that others made, from npm packages: which forms can be made of each, that stock onnxruntime loads them, how near their outputs are to
 * those of float32, how much smaller and how much faster they are on one thread. A model fails of which no int8 form is within the stated error,
 * or whose fp16 form is made and is not. `--quick` times fewer runs.
 */
import { quantizedForms, readModel, type QuantizedForm } from '@commonweight/core';
import { loadDataset, type Dataset } from '@commonweight/edge-agent';
import { table } from '../../cli/src/output/format.ts';
import { npmFile } from '../support/npm-models.ts';
import { formsOf, medianMs, type Form, type Tried } from './model-forms.ts';
import { subjects, type Subject } from './model-subjects.ts';
import type { Report } from './report.ts';

/** The stated error: least signal to noise of a model's worst output, in decibels. */
const SQNR_MIN_DB: Readonly<Record<QuantizedForm, number>> = {
  'dynamic-int8': 20,
  'static-int8': 20,
  'int8-blocks': 20,
  'int4-blocks': 10,
  fp16: 40,
};
const INT8: readonly QuantizedForm[] = ['dynamic-int8', 'static-int8', 'int8-blocks'];
/** Seeds of inputs to calibrate with and to measure on; the digits of the second are held out as well. */
const [CALIBRATION_SEED, MEASURING_SEED] = [1, 2];

interface Measured extends Omit<Form, 'bytes'> {
  sizeRatio: number;
  speedup: number;
  within: boolean;
}

interface Found {
  package: string;
  file: string;
  family: string;
  bytes: number;
  float32Ms: number;
  inputs: number;
  forms: Partial<Record<QuantizedForm, Measured | { refused: string }>>;
}

export async function report({ quick }: { quick: boolean }): Promise<Report> {
  const digits = { train: await loadDataset('mnist'), test: await loadDataset('mnist?split=test') };
  const found: Record<string, Found> = {};
  for (const [name, subject] of Object.entries(subjects)) {
    process.stderr.write(`${name}\n`);
    found[name] = await measure(subject, digits, quick);
  }
  const all = Object.entries(found);
  return {
    figures: Object.assign({}, ...all.map(([name, one]) => figuresOf(name, one))) as Record<string, number | null>,
    text: all.map(([name, one]) => textOf(name, one)).join('\n\n'),
    details: { sqnrMinDb: SQNR_MIN_DB, models: found },
    failures: all.flatMap(([name, one]) => failuresOf(name, one)),
  };
}

async function measure(
  { family, file, inputs: make }: Subject,
  digits: { train: Dataset; test: Dataset },
  quick: boolean,
): Promise<Found> {
  const bytes = await npmFile(file);
  const calibration = await make({ digits: digits.train, seed: CALIBRATION_SEED });
  const inputs = await make({ digits: digits.test, seed: MEASURING_SEED });
  const tried = await formsOf(readModel(bytes), { forms: quantizedForms, calibration, inputs, minDb: SQNR_MIN_DB });
  const made = tried.filter((one) => 'bytes' in one);
  const [float32Ms = NaN, ...times] = await medianMs([bytes, ...made.map((one) => one.bytes)], inputs[0]!, quick);
  const measured = (one: Tried): Measured | { refused: string } => {
    if ('refused' in one) return { refused: one.refused };
    const { bytes: coded, ...form } = one;
    const speedup = float32Ms / times[made.indexOf(one)]!;
    return { ...form, sizeRatio: bytes.length / coded.length, speedup, within: form.sqnrDb >= SQNR_MIN_DB[form.form] };
  };
  return {
    package: file.package,
    file: file.path,
    family,
    bytes: bytes.length,
    float32Ms,
    inputs: inputs.length,
    forms: Object.fromEntries(tried.map((one) => [one.form, measured(one)])),
  };
}

/** The int8 form within the stated error that is the smallest, and fp16. Null where there is none. */
function figuresOf(name: string, { forms }: Found): Record<string, number | null> {
  const best = INT8.map((form) => forms[form])
    .filter((one) => one !== undefined && 'within' in one)
    .filter(({ within }) => within)
    .toSorted((a, b) => b.sizeRatio - a.sizeRatio)[0];
  const half = forms.fp16 !== undefined && 'within' in forms.fp16 ? forms.fp16 : undefined;
  return {
    [`sqnr_db_int8_${name}`]: best?.sqnrDb ?? null,
    [`size_ratio_int8_${name}`]: best?.sizeRatio ?? null,
    [`speedup_int8_${name}`]: best?.speedup ?? null,
    [`sqnr_db_fp16_${name}`]: half?.sqnrDb ?? null,
    [`size_ratio_fp16_${name}`]: half?.sizeRatio ?? null,
    [`speedup_fp16_${name}`]: half?.speedup ?? null,
  };
}

function failuresOf(name: string, { forms }: Found): string[] {
  const isWithin = (form: QuantizedForm): boolean => {
    const one = forms[form];
    return one !== undefined && 'within' in one && one.within;
  };
  const { fp16 } = forms;
  return [
    ...(INT8.some(isWithin) ? [] : [`${name}: no int8 form keeps its outputs (${SQNR_MIN_DB['static-int8']} dB)`]),
    ...(fp16 !== undefined && 'within' in fp16 && !fp16.within
      ? [`${name}: fp16 does not keep its outputs (${SQNR_MIN_DB.fp16} dB)`]
      : []),
  ];
}

function textOf(name: string, { package: from, file, family, bytes, float32Ms, inputs, forms }: Found): string {
  const head = `${name}: ${family}\n${from} ${file}, ${(bytes / 1e6).toFixed(1)} MB, ${float32Ms.toPrecision(3)} ms, ${inputs} inputs`;
  const rows = Object.entries(forms).map(([form, one]) => {
    if ('refused' in one) return [form, 'refused', '', '', one.refused];
    const { sqnrDb, sizeRatio, speedup, layers, left, allDb, within } = one;
    const without = left === 0 ? '' : `, the ${left} noisiest left (${allDb.toFixed(1)} dB with them)`;
    const verdict = within ? '' : ': NOT within the stated error';
    return [
      form,
      `${sqnrDb.toFixed(1)} dB`,
      `${sizeRatio.toFixed(2)}x`,
      `${speedup.toFixed(2)}x`,
      `${layers} ${form === 'fp16' ? 'node' : 'layer'}${layers === 1 ? '' : 's'}${without}${verdict}`,
    ];
  });
  return `${head}\n${table(['form', 'signal to noise', 'smaller', 'speed', ''], rows)}`;
}
