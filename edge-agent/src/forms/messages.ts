/** A version and one of its forms, and how much of the data they are to be run on. */
export interface FormJob {
  /** Data specification, see loadDataset. */
  data: string;
  /** ONNX files. */
  float32: Uint8Array;
  form: Uint8Array;
  examplesMax: number;
  /** The share of the data that is set aside; 0 where the agent measures with all. */
  holdOut: number;
  /** Labels are classes, and the first output has a number for each. */
  classes: boolean;
  threads: number;
}

/** What a form did beside float32, in whole numbers but for the difference. */
export interface FormCounts {
  examples: number;
  /** Right answers were counted. */
  labelled: boolean;
  float32Right: number;
  right: number;
  /** Rows of outputs that have more than one value, and those whose largest stays in its place. */
  rows: number;
  agreeing: number;
  /** Largest difference of an output, as a share of the largest of its values in float32. */
  difference: number;
}
