import type { EncodingName, ValueEncodingName } from './encoding.ts';

/** How the updates of a task travel: what agents and coordinator have to agree on besides the grid. */
export interface UpdateFormat {
  encoding: EncodingName;
  /** The largest share of the values that an update sends; 1 is all. */
  topK: number;
}

/** What of a format a person chooses. */
export interface FormatChoice {
  /** How single values are encoded. */
  encoding: ValueEncodingName;
  /** Only this share of the values is sent, the largest; the rest stays on the agent until it is among them. */
  topK?: number;
}

export function formatOf({ encoding, topK }: FormatChoice): UpdateFormat {
  return topK === undefined ? { encoding, topK: 1 } : { encoding: `topk-${encoding}`, topK };
}
