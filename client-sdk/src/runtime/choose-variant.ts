/**
 * Which form of a version serves here, and on which engine. Forms are the published ones, or else made on this machine from the float32 version.
 * One is taken where it is not slower than float32 on the first engine at any number of rows that was timed, fits the memory, and gives nearly the same
 * outputs. Speed is timed once for all versions of a family; outputs are compared for every version, because they hang on its weights.
 */
import type { ModelNeeds } from '@commonweight/core';
import { asError } from '../errors.ts';
import type { Contract } from '../model/contract.ts';
import { madeUpInputs } from './example-inputs.ts';
import type { Deviation } from './deviation.ts';
import { compareSessions, quickMs, timeSessions } from './measure-variants.ts';
import type { Engine, EngineName, Session } from './engine.ts';
import type { EngineSource, EngineSources } from './engines.ts';
import type { MakeForms } from './made-forms.ts';
import type { MeasurementKey, Measurements, Timings } from './measurements.ts';
import type { Feeds } from './tensor.ts';
import {
  isOf,
  type CandidateReport,
  type MadeName,
  type PublishedForms,
  type RowTiming,
  type ServedVariant,
  type VariantName,
  type VariantOptions,
} from './variant.ts';

/** A form has to win by this factor: a smaller gain may be the machine's mood. */
const GAIN_MIN = 1.05;
const DIFFERENCE_MAX = 0.05;
const AGREEMENT_MIN = 0.95;
/** Rows that are timed, where the model takes more than one. */
const ROWS = [1, 16];
/** Slower engines than this may take seconds for what is to be found out. */
const PATIENCE = 4;
/** Of a form that was not fetched. */
const NOTHING = new Uint8Array();
/** Made-up examples that outputs are compared on, where there are no others. */
const MADE_UP = 64;
/** Fewer examples than this say too little of ranges. */
const EXAMPLES_MIN = 32;

/** A version to be served. */
export interface VariantSubject {
  /** Equal for versions that differ by their weights alone. */
  family: string;
  onnx: Uint8Array;
  contract: Contract;
  /** Single rows that apps asked lately. */
  recent: readonly Feeds[];
  /** Forms that need not be made here, and those that must not be. */
  published?: PublishedForms;
}

export interface ChosenVariant extends ServedVariant {
  onnx: Uint8Array;
}

export interface ChooserParts extends VariantOptions {
  threads: number;
  measurements: Measurements;
  /** What is tried; the first is what others have to beat. */
  engines: EngineSources;
  /** Makes one engine of several. */
  openEngines(engines: EngineSources): Engine;
  makeForms: MakeForms;
  /** Times as long as the first one that another engine may take for one row, to be tried further. */
  patience?: number;
}

/** A form on an engine. */
interface Candidate {
  report: CandidateReport;
  onnx: Uint8Array;
  /** What it needs of an engine, where somebody says so. */
  needs?: ModelNeeds;
}

interface Loaded extends Candidate {
  session: Session;
}

/** Takes a form for the version, and says why. Throws where the memory that was given holds none. */
export async function chooseVariant(subject: VariantSubject, parts: ChooserParts): Promise<ChosenVariant> {
  const { bytesMax = Infinity, choice, engines } = parts;
  const trial = new Trial(subject, parts);
  const { candidate, why } =
    choice === 'fp32' && engines.length === 1
      ? { candidate: trial.plain, why: 'fp32 was asked for' }
      : await trial.run();
  const { name, engine } = candidate.report;
  if (candidate.onnx.length > bytesMax) {
    throw new Error(`${name} takes ${candidate.onnx.length} of at most ${bytesMax} bytes: ${why}`);
  }
  return { name, engine, onnx: candidate.onnx, why, candidates: trial.reports };
}

interface Choice {
  candidate: Candidate;
  why: string;
}

/** One version's forms, tried against each other. */
class Trial {
  readonly plain: Candidate;
  readonly reports: CandidateReport[];
  readonly #subject: VariantSubject;
  readonly #parts: ChooserParts;

  constructor(subject: VariantSubject, parts: ChooserParts) {
    this.#subject = subject;
    this.#parts = parts;
    const [{ name: engine }] = parts.engines;
    this.plain = { report: { name: 'fp32', engine, bytes: subject.onnx.length }, onnx: subject.onnx };
    this.reports = [this.plain.report];
  }

  /** What cannot be tried is not taken: float32 serves on the first engine, and says why. */
  async run(): Promise<Choice> {
    const { engines, openEngines } = this.#parts;
    // Engines of its own: what is measured must not hold up what is served, nor be slowed by it more than need be.
    const trying = openEngines(engines);
    try {
      return await this.#choose(trying);
    } catch (error) {
      return { candidate: this.plain, why: `nothing else can be tried: ${asError(error).message}` };
    } finally {
      await trying.close();
    }
  }

  async #choose(engine: Engine): Promise<Choice> {
    const { choice, examples: provided, bytesMax = Infinity } = this.#parts;
    const { contract, onnx, recent } = this.#subject;
    const rows = (await provided?.(contract)) ?? [];
    const given = rows.length >= EXAMPLES_MIN ? rows : recent;
    const enough = given.length >= EXAMPLES_MIN;
    // Ranges from one half, outputs from the other: a form must not be judged by what it was made of.
    const known = given.filter((_, index) => index % 2 === 0);
    const unseen = given.filter((_, index) => index % 2 === 1);
    const whys: string[] = [];
    const forms = choice === 'fp32' ? [] : await this.#made(enough ? known : [], bytesMax, whys);
    const plain: Loaded = { ...this.plain, session: await engine.load(onnx) };
    const before = await this.#measuredBefore(engine);
    const accurate: Loaded[] = [];
    for (const candidate of this.#onEngines(forms, whys)) {
      const loaded = await loadedOn(engine, candidate, whys);
      if (loaded === undefined) continue;
      let deviation: Deviation;
      try {
        if (timingsIn(before, loaded) === undefined && (await this.#isHopeless(plain, loaded, whys))) continue;
        deviation = await compareSessions(plain.session, loaded.session, enough ? unseen : this.#madeUp());
      } catch (error) {
        whys.push(`${this.#nameOf(candidate)} cannot be run: ${asError(error).message}`);
        continue;
      }
      Object.assign(candidate.report, deviation);
      const inaccurate = inaccuracy(this.#nameOf(candidate), deviation, this.#parts);
      if (inaccurate === undefined) accurate.push(loaded);
      else whys.push(inaccurate);
    }
    const [only, ...others] = accurate;
    if (only === undefined) {
      return { candidate: this.plain, why: whys.join('; ') || `no form of ${choice} is published` };
    }
    const isForced = this.#isAskedFor || onnx.length > bytesMax;
    if (isForced && others.length === 0) return { candidate: only, why: this.#whyForced() };
    await this.#time(engine, [plain, ...accurate], before);
    const batches = this.#parts.batches ?? false;
    const verdicts = accurate.map((candidate) => ({
      candidate,
      ...verdictOn(candidate.report, plain.report, { called: this.#nameOf(candidate), batches }),
    }));
    const faster = verdicts.filter(({ isFaster }) => isFaster);
    const best = (faster.length > 0 ? faster : verdicts).reduce((most, each) => (each.gain > most.gain ? each : most));
    if (isForced) return { candidate: best.candidate, why: `${this.#whyForced()}; ${best.why}` };
    if (best.isFaster) return best;
    return { candidate: this.plain, why: [...whys, ...verdicts.map(({ why }) => why)].join('; ') };
  }

  /**
   * Each form on each engine that has what it needs, but for the one that all are compared with. Float32 that was not asked for, or is too
   * large, is none.
   */
  #onEngines(forms: readonly Candidate[], whys: string[]): Candidate[] {
    const { bytesMax = Infinity, engines } = this.#parts;
    const mayBePlain = !this.#isAskedFor && this.plain.onnx.length <= bytesMax;
    return engines.flatMap((source, index) => {
      const candidates = [
        ...(mayBePlain && index > 0 ? [on(source, this.plain)] : []),
        ...forms.filter((form) => this.#isFor(source, form)).map((form) => on(source, form)),
      ];
      this.reports.push(...candidates.map(({ report }) => report));
      return candidates.filter((candidate) => this.#isRunBy(source, candidate, whys));
    });
  }

  /** Whether an engine has what a form needs; what it lacks is reported. */
  #isRunBy({ name: engine, lacks }: EngineSource, { report, needs }: Candidate, whys: string[]): boolean {
    const lack = needs === undefined ? undefined : lacks?.(needs);
    if (lack === undefined) return true;
    report.lacks = lack;
    whys.push(`${report.name} needs ${lack}, which ${engine} does not have`);
    return false;
  }

  /** Float16 that nobody published is for engines that compute in it: others turn it into float32 first. */
  #isFor({ computesInHalf }: EngineSource, { report: { name, published } }: Candidate): boolean {
    return name !== 'fp16' || published !== undefined || computesInHalf === true || this.#parts.choice === 'fp16';
  }

  /** Whether somebody wants a form at any speed. */
  get #isAskedFor(): boolean {
    return this.#parts.choice !== 'auto' && this.#parts.choice !== 'fp32';
  }

  /** Whether another engine is so slow that there is nothing to find out. It would have to be no slower with one row. */
  async #isHopeless(plain: Loaded, loaded: Loaded, whys: string[]): Promise<boolean> {
    if (loaded.report.engine === plain.report.engine) return false;
    const feeds = madeUpInputs(this.#subject.contract.inputs, { rows: 1, seed: 'timing' });
    const [own, others] = [await quickMs(plain.session, feeds), await quickMs(loaded.session, feeds)];
    if (others <= (this.#parts.patience ?? PATIENCE) * own) return false;
    whys.push(`${this.#nameOf(loaded)} takes ${(others / own).toFixed(1)} times as long with 1 row`);
    return true;
  }

  /** As reasons speak of it. */
  #nameOf({ report: { name, engine } }: Candidate): string {
    return engine === this.#parts.engines[0].name ? name : `${name} on ${engine}`;
  }

  /** The forms that are wanted and fit the memory, published or made here; why others are not there is added to the reasons. */
  async #made(examples: readonly Feeds[], bytesMax: number, whys: string[]): Promise<Candidate[]> {
    const { onnx: float32, published } = this.#subject;
    const { choice, engines, makeForms } = this.#parts;
    const { engine } = this.plain.report;
    const candidates = (published?.forms ?? [])
      .filter(({ name }) => isOf(choice, name))
      .map(({ name, why, onnx, needs }): Candidate => ({
        report: { name, engine, bytes: onnx.length, published: why },
        onnx,
        ...(needs === undefined ? {} : { needs }),
      }));
    const unfit = (published?.unfit ?? []).filter(({ name }) => isOf(choice, name));
    for (const { name, why, bytes, needs } of unfit) {
      const report: CandidateReport = { name, engine, bytes, published: why };
      this.reports.push(report);
      this.#isRunBy(engines[0], { report, onnx: NOTHING, needs }, whys);
    }
    const withheld = [...(published?.withheld ?? [])].filter(([name]) => choice === 'auto' || name.startsWith(choice));
    for (const [name, why] of withheld) whys.push(`${name} is withheld: ${why}`);
    const isSettled = (name: VariantName): boolean =>
      withheld.some(([each]) => each === name) ||
      unfit.some((form) => form.name === name) ||
      candidates.some(({ report }) => report.name === name);
    const isUseful: Readonly<Record<MadeName, boolean>> = {
      'int8-dynamic': true,
      'int8-static': examples.length > 0,
      fp16: choice === 'fp16' || engines.some(({ computesInHalf }) => computesInHalf),
    };
    const names = (Object.keys(isUseful) as MadeName[]).filter(
      (name) => isOf(choice, name) && isUseful[name] && !isSettled(name),
    );
    const made = names.length === 0 ? [] : await makeForms({ onnx: float32, names, examples });
    for (const form of made) {
      const { name } = form;
      if ('refused' in form) whys.push(`${name} cannot be made: ${form.refused}`);
      else candidates.push({ report: { name, engine, bytes: form.onnx.length }, onnx: form.onnx });
    }
    return candidates.filter(({ report }) => {
      const { name, bytes } = report;
      if (bytes <= bytesMax) return true;
      whys.push(`${name} takes ${bytes} of at most ${bytesMax} bytes`);
      this.reports.push(report);
      return false;
    });
  }

  #whyForced(): string {
    const { choice, bytesMax } = this.#parts;
    return this.#isAskedFor
      ? `${choice} was asked for`
      : `float32 takes ${this.plain.onnx.length} of at most ${bytesMax} bytes`;
  }

  #madeUp(): Feeds[] {
    const { inputs } = this.#subject.contract;
    return Array.from({ length: MADE_UP }, (_, seed) => madeUpInputs(inputs, { rows: 1, seed: String(seed) }));
  }

  async #measuredBefore(engine: Engine): Promise<Map<EngineName, Timings>> {
    const known = new Map<EngineName, Timings>();
    for (const { name } of this.#parts.engines) {
      known.set(name, (await this.#parts.measurements.get(await this.#keyOf(engine, name))) ?? {});
    }
    return known;
  }

  /** Says of each how fast it is: as it was measured before, or else all of them now. */
  async #time(engine: Engine, candidates: readonly Loaded[], before: Map<EngineName, Timings>): Promise<void> {
    const known = candidates.map((candidate) => timingsIn(before, candidate));
    const areKnown = known.every((each) => each !== undefined);
    const times = areKnown ? known : await this.#timed(candidates);
    for (const [index, { report }] of candidates.entries()) {
      report.runMs = times[index]!;
      before.set(report.engine, { ...before.get(report.engine), [report.name]: times[index]! });
    }
    if (areKnown) return;
    for (const [name, timings] of before) {
      await this.#parts.measurements.put(await this.#keyOf(engine, name), timings);
    }
  }

  #timed(candidates: readonly Loaded[]): Promise<RowTiming[][]> {
    const { inputs } = this.#subject.contract;
    const isOpen = inputs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
    const given = (isOpen ? ROWS : [1]).map((rows) => ({
      rows,
      feeds: madeUpInputs(inputs, { rows, seed: 'timing' }),
    }));
    return timeSessions(
      candidates.map(({ session }) => session),
      given,
    );
  }

  async #keyOf(engine: Engine, name: EngineName): Promise<MeasurementKey> {
    const { engines, threads } = this.#parts;
    const source = engines.find((each) => each.name === name);
    const device = (await source?.device(threads)) ?? 'unknown';
    return { family: this.#subject.family, runtime: await engine.runtime(name), device };
  }
}

/** A form as it would be on an engine. */
function on({ name: engine }: EngineSource, { report, ...form }: Candidate): Candidate {
  const { name, bytes, published } = report;
  return { report: { name, engine, bytes, ...(published === undefined ? {} : { published }) }, ...form };
}

const timingsIn = (
  before: ReadonlyMap<EngineName, Timings>,
  { report: { name, engine } }: Candidate,
): readonly RowTiming[] | undefined => before.get(engine)?.[name];

/** A form that an engine cannot load is none. */
async function loadedOn(engine: Engine, candidate: Candidate, whys: string[]): Promise<Loaded | undefined> {
  const { report, onnx } = candidate;
  try {
    return { ...candidate, session: await engine.load(onnx, report.engine) };
  } catch (error) {
    whys.push(`${report.name} cannot be loaded by ${report.engine}: ${asError(error).message}`);
    return undefined;
  }
}

interface Verdict {
  isFaster: boolean;
  /** How many times as fast where it gains least. */
  gain: number;
  why: string;
}

/**
 * A form is taken where it is not slower at any number of rows, and faster by enough at one of them. Where requests are
 * batched, int8-dynamic is reckoned row by row: it would mix what different requests brought.
 */
export function verdictOn(
  { name, runMs: own = [] }: Pick<CandidateReport, 'name' | 'runMs'>,
  { runMs: plain = [] }: Pick<CandidateReport, 'runMs'>,
  { called = name, batches }: { called?: string; batches: boolean },
): Verdict {
  const isRowByRow = batches && name === 'int8-dynamic';
  const gains = plain.map(({ rows, ms }, index) => {
    const ownMs = isRowByRow ? rows * (own[0]?.ms ?? NaN) : (own[index]?.ms ?? NaN);
    return { rows, gain: ms / ownMs };
  });
  const show = ({ rows, gain }: { rows: number; gain: number }): string =>
    `${gain.toFixed(2)} times as fast with ${rows} ${rows === 1 ? 'row' : `rows${isRowByRow ? ', which it has to run one by one' : ''}`}`;
  const worst = gains.reduce((least, each) => (each.gain >= least.gain ? least : each), { rows: 0, gain: Infinity });
  const best = gains.reduce((most, each) => (each.gain > most.gain ? each : most), { rows: 0, gain: 0 });
  if (!(worst.gain >= 1)) return { isFaster: false, gain: worst.gain || 0, why: `${called} is only ${show(worst)}` };
  if (best.gain < GAIN_MIN)
    return { isFaster: false, gain: worst.gain, why: `${called} is hardly faster: ${show(best)}` };
  return { isFaster: true, gain: worst.gain, why: `${called} is ${gains.map(show).join(' and ')}` };
}

/** Why the outputs are too far apart, or undefined where they are not. */
export function inaccuracy(
  name: string,
  { difference, agreement }: Deviation,
  {
    differenceMax = DIFFERENCE_MAX,
    agreementMin = AGREEMENT_MIN,
  }: Pick<VariantOptions, 'differenceMax' | 'agreementMin'>,
): string | undefined {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  if (!(difference <= differenceMax)) {
    return `outputs of ${name} differ by ${percent(difference)} of their largest value, and ${percent(differenceMax)} are allowed`;
  }
  if (agreement < agreementMin) {
    return `${name} agrees on the largest output in ${percent(agreement)} of rows, and ${percent(agreementMin)} are wanted`;
  }
  return undefined;
}
