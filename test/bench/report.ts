/** What a benchmark of many subjects found. */
export interface Report {
  figures: Record<string, number | null>;
  /** For people, instead of the list of figures. */
  text: string;
  /** Goes beside the figures in the JSON object. */
  details: object;
  /** What is not as it should be, a line each: the exit code is 1 then. */
  failures: readonly string[];
}
