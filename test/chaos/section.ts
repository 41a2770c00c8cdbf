/** One kind of harm that `npm run chaos` does, and the figures that it brings. */
export interface Section {
  name: string;
  /** How much of the time of all sections is its own, beside theirs: its minutes in a run whose figures are to be published. */
  share: number;
  /** What this machine lacks for it, as a sentence; undefined where it can run. It is then printed as skipped and counted. */
  lacks(): Promise<string | undefined>;
  /** Harms real processes and files until the time is over, and looks at what is left. */
  run(options: SectionOptions): Promise<SectionReport>;
}

export interface SectionOptions {
  /** The same seed does the same harm; when what falls, the machine decides. */
  seed: number;
  /** About how long the section may take. Each kind of harm is done at least once, whatever this says. */
  minutes: number;
  log(line: string): void;
}

export interface SectionReport {
  /** What was counted and measured, with the unit in the name: `failover_p99_ms`. */
  figures: Readonly<Record<string, number>>;
  /** Each broken promise as a sentence that names the invariant first: `I1: update … is lost`. */
  violations: readonly string[];
}
