import type { ExplainOptions, Explanation } from '@commonweight/client-sdk';
import type { NamedTensor } from './request.ts';

/** One request for an explanation. */
export interface ExplainRequest extends Omit<ExplainOptions, 'baseline'> {
  inputs: readonly NamedTensor[];
  /** One number everywhere, or one example. */
  baseline?: number | readonly NamedTensor[];
}

export interface ExplainAnswer extends Explanation {
  model: string;
}
