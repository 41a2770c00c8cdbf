/**
 * Which form of a version serves here. Int8 forms are the published ones, or else made on this machine from the float32 version. One is taken where
 * it is not slower at any number of rows that was timed, fits the memory, and gives nearly the same outputs. Speed is
 * timed once for all versions of a family; outputs are compared for every version, because they hang on its weights.
 */
import { asError } from '../errors.ts';
import type { Contract } from '../model/contract.ts';
import { madeUpInputs } from './example-inputs.ts';
import type { Deviation } from './deviation.ts';
import { compareSessions, timeSessions } from './measure-variants.ts';
import { deviceName, runtimeName, type Measurements, type Timings } from './measurements.ts';
import type { Session } from './engine.ts';
import { OrtEngine } from './ort-engine.ts';
import { quantizedToInt8 } from './quantize.ts';
import type { Feeds } from './tensor.ts';
import type {
  CandidateReport,
  PublishedForms,
  RowTiming,
  ServedVariant,
  VariantName,
  VariantOptions,
} from './variant.ts';

/** Int8 has to win by this factor: a smaller gain may be the machine's mood. */
const GAIN_MIN = 1.05;
const DIFFERENCE_MAX = 0.05;
const AGREEMENT_MIN = 0.95;
/** Rows that are timed, where the model takes more than one. */
const ROWS = [1, 16];
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

interface ChooserParts extends VariantOptions {
  threads: number;
  measurements: Measurements;
}

interface Candidate {
  report: CandidateReport;
  onnx: Uint8Array;
}

interface Loaded extends Candidate {
  session: Session;
}

/** Takes a form for the version, and says why. Throws where the memory that was given holds none. */
export async function chooseVariant(subject: VariantSubject, parts: ChooserParts): Promise<ChosenVariant> {
  const { bytesMax = Infinity } = parts;
  const trial = new Trial(subject, parts);
  const { candidate, why } =
    parts.choice === 'fp32' ? { candidate: trial.plain, why: 'fp32 was asked for' } : await trial.run();
  if (candidate.onnx.length > bytesMax) {
    throw new Error(`${candidate.report.name} takes ${candidate.onnx.length} of at most ${bytesMax} bytes: ${why}`);
  }
  return { name: candidate.report.name, onnx: candidate.onnx, why, candidates: trial.reports };
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
    this.plain = { report: { name: 'fp32', bytes: subject.onnx.length }, onnx: subject.onnx };
    this.reports = [this.plain.report];
  }

  /** What cannot be tried is not taken: float32 serves, and says why. */
  async run(): Promise<Choice> {
    // An engine of its own: what is measured must not hold up what is served, nor be slowed by it more than need be.
    const engine = new OrtEngine({ threads: this.#parts.threads });
    try {
      return await this.#choose(engine);
    } catch (error) {
      return { candidate: this.plain, why: `int8 cannot be tried: ${asError(error).message}` };
    } finally {
      await engine.close();
    }
  }

  async #choose(engine: OrtEngine): Promise<Choice> {
    const { choice, examples: provided, bytesMax = Infinity } = this.#parts;
    const { contract, onnx, recent } = this.#subject;
    const rows = (await provided?.(contract)) ?? [];
    const given = rows.length >= EXAMPLES_MIN ? rows : recent;
    const enough = given.length >= EXAMPLES_MIN;
    // Ranges from one half, outputs from the other: a form must not be judged by what it was made of.
    const known = given.filter((_, index) => index % 2 === 0);
    const unseen = given.filter((_, index) => index % 2 === 1);
    const whys: string[] = [];
    const candidates = await this.#made(enough ? known : [], bytesMax, whys);
    const plain: Loaded = { ...this.plain, session: await engine.load(onnx) };
    const accurate: Loaded[] = [];
    for (const candidate of candidates) {
      const loaded = { ...candidate, session: await engine.load(candidate.onnx) };
      const deviation = await compareSessions(plain.session, loaded.session, enough ? unseen : this.#madeUp());
      Object.assign(candidate.report, deviation);
      const inaccurate = inaccuracy(candidate.report.name, deviation, this.#parts);
      if (inaccurate === undefined) accurate.push(loaded);
      else whys.push(inaccurate);
    }
    const [only, ...others] = accurate;
    if (only === undefined) return { candidate: this.plain, why: whys.join('; ') };
    const isForced = choice === 'int8' || onnx.length > bytesMax;
    if (isForced && others.length === 0) return { candidate: only, why: this.#whyForced() };
    const timings = await this.#timed([plain, ...accurate]);
    for (const report of this.reports) {
      const medianMs = timings[report.name];
      if (medianMs !== undefined) report.medianMs = medianMs;
    }
    const batches = this.#parts.batches ?? false;
    const verdicts = accurate.map((candidate) => ({
      candidate,
      ...verdictOn(candidate.report.name, timings, batches),
    }));
    const faster = verdicts.filter(({ isFaster }) => isFaster);
    const best = (faster.length > 0 ? faster : verdicts).reduce((most, each) => (each.gain > most.gain ? each : most));
    if (isForced) return { candidate: best.candidate, why: `${this.#whyForced()}; ${best.why}` };
    if (best.isFaster) return best;
    return { candidate: this.plain, why: [...whys, ...verdicts.map(({ why }) => why)].join('; ') };
  }

  /** The int8 forms that fit the memory, published or made here; why others are not there is added to the reasons. */
  async #made(examples: readonly Feeds[], bytesMax: number, whys: string[]): Promise<Candidate[]> {
    const { published } = this.#subject;
    const withheld = published?.withheld ?? new Map<string, string>();
    const candidates = (published?.forms ?? []).map(({ name, why, onnx }): Candidate => ({
      report: { name, bytes: onnx.length, published: why },
      onnx,
    }));
    for (const [name, why] of withheld) whys.push(`${name} is withheld: ${why}`);
    const isSettled = (name: VariantName): boolean =>
      withheld.has(name) || candidates.some(({ report }) => report.name === name);
    // Without examples there is only one form to make.
    if (examples.length > 0 || !isSettled('int8-dynamic')) {
      for (const made of await quantizedToInt8({ onnx: this.#subject.onnx, examples })) {
        const { name } = made;
        if (isSettled(name)) continue;
        if ('refused' in made) whys.push(`${name} cannot be made: ${made.refused}`);
        else candidates.push({ report: { name, bytes: made.onnx.length }, onnx: made.onnx });
      }
    }
    this.reports.push(...candidates.map(({ report }) => report));
    return candidates.filter(({ report: { name, bytes } }) => {
      if (bytes > bytesMax) whys.push(`${name} takes ${bytes} of at most ${bytesMax} bytes`);
      return bytes <= bytesMax;
    });
  }

  #whyForced(): string {
    const { choice, bytesMax } = this.#parts;
    return choice === 'int8'
      ? 'int8 was asked for'
      : `float32 takes ${this.plain.onnx.length} of at most ${bytesMax} bytes`;
  }

  #madeUp(): Feeds[] {
    const { inputs } = this.#subject.contract;
    return Array.from({ length: MADE_UP }, (_, seed) => madeUpInputs(inputs, { rows: 1, seed: String(seed) }));
  }

  /** As the cache has it, or else measured now. */
  async #timed(candidates: readonly Loaded[]): Promise<Timings> {
    const { measurements, threads } = this.#parts;
    const { family, contract } = this.#subject;
    const key = { family, runtime: runtimeName(), device: deviceName(threads) };
    const known = await measurements.get(key);
    if (known !== undefined && candidates.every(({ report }) => known[report.name] !== undefined)) return known;
    const isOpen = contract.inputs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
    const inputs = (isOpen ? ROWS : [1]).map((rows) => ({
      rows,
      feeds: madeUpInputs(contract.inputs, { rows, seed: 'timing' }),
    }));
    const times = await timeSessions(
      candidates.map(({ session }) => session),
      inputs,
    );
    const timings = Object.fromEntries(
      candidates.map(({ report }, index): [VariantName, RowTiming[]] => [report.name, times[index]!]),
    ) as Timings;
    await measurements.put(key, timings);
    return timings;
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
export function verdictOn(name: VariantName, timings: Timings, batches: boolean): Verdict {
  const isRowByRow = batches && name === 'int8-dynamic';
  const [fp32 = [], own = []] = [timings.fp32, timings[name]];
  const gains = fp32.map(({ rows, ms }, index) => {
    const ownMs = isRowByRow ? rows * (own[0]?.ms ?? NaN) : (own[index]?.ms ?? NaN);
    return { rows, gain: ms / ownMs };
  });
  const show = ({ rows, gain }: { rows: number; gain: number }): string =>
    `${gain.toFixed(2)} times as fast with ${rows} ${rows === 1 ? 'row' : `rows${isRowByRow ? ', which it has to run one by one' : ''}`}`;
  const worst = gains.reduce((least, each) => (each.gain >= least.gain ? least : each), { rows: 0, gain: Infinity });
  const best = gains.reduce((most, each) => (each.gain > most.gain ? each : most), { rows: 0, gain: 0 });
  if (!(worst.gain >= 1)) return { isFaster: false, gain: worst.gain || 0, why: `${name} is only ${show(worst)}` };
  if (best.gain < GAIN_MIN)
    return { isFaster: false, gain: worst.gain, why: `${name} is hardly faster: ${show(best)}` };
  return { isFaster: true, gain: worst.gain, why: `${name} is ${gains.map(show).join(' and ')}` };
}

/** Why the outputs are too far apart, or undefined where they are not. */
export function inaccuracy(
  name: VariantName,
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
