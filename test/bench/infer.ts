/**
 * Float32 against its forms: latency on one thread, size, accuracy on real digits, and which of them `variant: 'auto'` takes here. It fails
 * where a form is taken that is slower in the table, or where no form is slower, so that nothing was left aside for that.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { mlp, quantizedForms, writeModel, type QuantizedForm } from '@commonweight/core';
import { loadDataset } from '@commonweight/edge-agent';
import { bytes, percent, table } from '../../cli/src/output/format.ts';
import type { ChosenVariant } from '../../client-sdk/src/runtime/choose-variant.ts';
import { chosenOf, type Offered } from './infer-choice.ts';
import { measuredForms, modelsOf, type FormFigures } from './infer-forms.ts';
import { familiesOf } from './infer-subjects.ts';
import type { Report } from './report.ts';
import { run as runServe } from './serve.ts';

/** Forms that the coordinator makes and the SDK does not, by the names of either. */
const OFFERED = { 'int8-blocks': 'int8-blocks', 'int4-blocks': 'int4-blocks', fp16: 'fp16' } as const;
/** What measuring twice may differ by, so that a form that was taken is called slower. */
const SLOWER = 0.95;

export async function report({ quick }: { quick: boolean }): Promise<Report> {
  const [train, test] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  const found: Found[] = [];
  for (const [name, family] of Object.entries(await familiesOf(train))) {
    process.stderr.write(`${name}\n`);
    const models = await modelsOf(family, train);
    const offered = Object.entries(OFFERED).map(([form, as]): Offered => ({ name: as, model: models.get(form)! }));
    const forms = await measuredForms(models, family.dims, test);
    const chosen = await chosenOf(name, { ...family, offered, train });
    found.push({ name, form: family.form, forms, chosen });
  }
  const figures: Record<string, number | null> = Object.assign({}, ...found.map(figuresOf));
  if (!quick) {
    const { serving_overhead = null, rps_c64 = null } = await runServe({}, ['mlp']);
    Object.assign(figures, await largeFigures(), { serving_overhead, rps_c64 });
  }
  return {
    figures,
    text: [...found.map(textOf), ...(quick ? [] : [table(['figure', ''], rowsOfOthers(figures))])].join('\n\n'),
    details: {
      ...Object.fromEntries(found.map(({ name, chosen }) => [`chosen_${name}`, chosen.name])),
      choices: Object.fromEntries(
        found.map(({ name, chosen: { why, engine, candidates } }) => [name, { why, engine, candidates }]),
      ),
    },
    failures: failuresOf(found),
  };
}

interface Found {
  name: string;
  form: QuantizedForm;
  forms: readonly FormFigures[];
  chosen: ChosenVariant;
}

function figuresOf({ name, form, forms, chosen }: Found): Record<string, number> {
  const [plain, ...others] = forms as [FormFigures, ...FormFigures[]];
  const figures: Record<string, number> = {
    [`p50_ms_float32_${name}`]: plain.p50Ms,
    [`p99_ms_float32_${name}`]: plain.p99Ms,
    [`accuracy_float32_${name}`]: plain.accuracy,
    [`speedup_chosen_${name}`]: speedupOfChosen(chosen),
  };
  for (const other of others) {
    const key = `${other.name === form ? 'int8' : other.name.replaceAll('-', '_')}_${name}`;
    figures[`speedup_${key}`] = plain.p50Ms / other.p50Ms;
    figures[`${other.name === form ? `accuracy_drop_points_${name}` : `drop_points_${key}`}`] =
      (plain.accuracy - other.accuracy) * 100;
    figures[`size_ratio_${key}`] = plain.bytes / other.bytes;
    figures[`p50_ms_${key}`] = other.p50Ms;
    figures[`p99_ms_${key}`] = other.p99Ms;
  }
  return figures;
}

/** With one row, as the chooser timed it. */
function speedupOfChosen({ name, candidates }: ChosenVariant): number {
  const msOf = (wanted: string): number => candidates.find((each) => each.name === wanted)?.runMs?.[0]?.ms ?? NaN;
  return name === 'fp32' ? 1 : msOf('fp32') / msOf(name);
}

/** What the chooser calls a form of the table. */
const nameInTable: Readonly<Record<string, string>> = {
  fp32: 'float32',
  'int8-dynamic': 'dynamic-int8',
  'int8-static': 'static-int8',
};

function textOf({ name, forms, chosen }: Found): string {
  const [plain] = forms as [FormFigures];
  const taken = nameInTable[chosen.name] ?? chosen.name;
  const rows = forms.map((form) => [
    form.name,
    bytes(form.bytes),
    `${(plain.bytes / form.bytes).toFixed(1)}x`,
    `${form.p50Ms.toPrecision(3)} ms`,
    `${form.p99Ms.toPrecision(3)} ms`,
    `${(plain.p50Ms / form.p50Ms).toFixed(2)}x`,
    percent(form.accuracy),
    ((plain.accuracy - form.accuracy) * 100).toFixed(1),
    form.name === taken ? 'taken by auto' : '',
  ]);
  return [
    table([name, 'size', 'smaller', 'p50', 'p99', 'faster', 'accuracy', 'points lost', ''], rows),
    `auto takes ${chosen.name}: ${chosen.why}`,
  ].join('\n');
}

const rowsOfOthers = (figures: Readonly<Record<string, number | null>>): string[][] =>
  ['quantize_s_100mb', 'quantize_peak_memory_ratio_100mb', 'serving_overhead', 'rps_c64'].map((key) => [
    key,
    figures[key]?.toPrecision(4) ?? 'not run',
  ]);

function failuresOf(found: readonly Found[]): string[] {
  const slower = found.flatMap(({ name, forms, chosen }) => {
    const taken = nameInTable[chosen.name] ?? chosen.name;
    return forms
      .filter(({ p50Ms }) => forms[0]!.p50Ms / p50Ms < SLOWER)
      .map((form) => ({ what: `${form.name} of ${name}`, isTaken: form.name === taken }));
  });
  if (slower.length === 0) return ['no form is slower than float32 here: nothing shows that such a one is left aside'];
  return slower.filter(({ isTaken }) => isTaken).map(({ what }) => `auto takes ${what}, which is slower than float32`);
}

async function largeFigures(): Promise<Record<string, number | null>> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-bench-'));
  try {
    const file = join(folder, 'large.onnx');
    const hidden = new Array<number>(5).fill(2180);
    await writeFile(file, writeModel(mlp({ inputs: 2180, hidden, outputs: 2180, seed: 1 })));
    const flags = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
    const child = join(import.meta.dirname, 'quantize-large.ts');
    const figures: Record<string, number | null> = {};
    let [slowest, most]: [number, number | null] = [0, 0];
    for (const form of quantizedForms) {
      const { stdout } = await promisify(execFile)(process.execPath, [...flags, child, file, form]);
      const { seconds, peakRatio } = JSON.parse(stdout) as { seconds: number; peakRatio: number | null };
      const key = form.replaceAll('-', '_');
      Object.assign(figures, { [`quantize_s_100mb_${key}`]: seconds, [`quantize_peak_ratio_${key}`]: peakRatio });
      slowest = Math.max(slowest, seconds);
      most = most === null || peakRatio === null ? null : Math.max(most, peakRatio);
    }
    // Of the slowest form, and of the one that takes most.
    return { ...figures, quantize_s_100mb: slowest, quantize_peak_memory_ratio_100mb: most };
  } finally {
    await rm(folder, { recursive: true });
  }
}
