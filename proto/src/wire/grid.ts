import { create } from '@bufbuild/protobuf';
import type { EncodingName, GridSpec } from '@commonweight/core';
import { GridSchema, type Grid } from '../gen/commonweight/v1/agent_pb.ts';
import { Encoding } from '../gen/commonweight/v1/release_pb.ts';

const ENCODINGS: Record<EncodingName, Encoding> = {
  float32: Encoding.FLOAT32,
  mxint8: Encoding.MXINT8,
  mxint4: Encoding.MXINT4,
  'topk-float32': Encoding.TOPK_FLOAT32,
  'topk-mxint8': Encoding.TOPK_MXINT8,
  'topk-mxint4': Encoding.TOPK_MXINT4,
};

export const encodingToWire = (name: EncodingName): Encoding => ENCODINGS[name];

/** The encoding's name, or undefined for one that this version does not know. */
export function encodingFromWire(encoding: Encoding): EncodingName | undefined {
  return (Object.keys(ENCODINGS) as EncodingName[]).find((name) => ENCODINGS[name] === encoding);
}

export const gridToWire = (grid: GridSpec): Grid => create(GridSchema, { ...grid });

export function gridFromWire(grid: Grid): GridSpec {
  const { lsbExponent, valueMaxExponent, weightMax, cohortMax } = grid;
  return { lsbExponent, valueMaxExponent, weightMax, cohortMax };
}
