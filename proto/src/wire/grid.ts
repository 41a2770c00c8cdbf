import { create } from '@bufbuild/protobuf';
import { encodings, invariant, type EncodingName, type GridSpec, type UpdateFormat } from '@commonweight/core';
import { GridSchema, type Assignment, type Grid } from '../gen/commonweight/v1/agent_pb.ts';
import { Encoding } from '../gen/commonweight/v1/release_pb.ts';

const ENCODINGS: Record<EncodingName, Encoding> = {
  float32: Encoding.FLOAT32,
  mxint8: Encoding.MXINT8,
  mxint4: Encoding.MXINT4,
  'topk-float32': Encoding.TOPK_FLOAT32,
  'topk-mxint8': Encoding.TOPK_MXINT8,
  'topk-mxint4': Encoding.TOPK_MXINT4,
};

const ROTATED: Partial<Record<EncodingName, Encoding>> = {
  mxint8: Encoding.ROTATED_MXINT8,
  mxint4: Encoding.ROTATED_MXINT4,
};

/** What an assignment says of the format of updates. */
export type FormatOnWire = Pick<Assignment, 'encoding' | 'topK' | 'rotationSeed' | 'zstd'>;

export function formatToWire({ encoding, topK, rotationSeed, compression }: UpdateFormat): FormatOnWire {
  const number = rotationSeed === undefined ? ENCODINGS[encoding] : ROTATED[encoding];
  invariant(number !== undefined, 'encodings of floats and of the largest values are not turned');
  const zstd = compression === 'zstd';
  return { encoding: number, topK: topK < 1 ? topK : 0, rotationSeed: rotationSeed ?? 0n, zstd };
}

/** The format, or undefined for one that this version does not know. */
export function formatFromWire({ encoding, topK, rotationSeed, zstd }: FormatOnWire): UpdateFormat | undefined {
  const isRotated = Object.values(ROTATED).includes(encoding);
  const numbers = isRotated ? ROTATED : ENCODINGS;
  const name = (Object.keys(numbers) as EncodingName[]).find((one) => numbers[one] === encoding);
  if (name === undefined) return undefined;
  const compression = zstd ? ({ compression: 'zstd' } as const) : {};
  if (isRotated) return { encoding: name, topK: 1, rotationSeed, ...compression };
  if (encodings[name].sends === 'all') return { encoding: name, topK: 1, ...compression };
  return topK > 0 && topK <= 1 ? { encoding: name, topK, ...compression } : undefined;
}

/** An encoding in words, such as `rotated-mxint4`; `unknown` for one that this version does not know. */
export function encodingName(encoding: Encoding): string {
  const [name = 'unknown'] = Object.entries(Encoding).find(([, number]) => number === encoding) ?? [];
  return name.toLowerCase().replaceAll('_', '-');
}

export const gridToWire = (grid: GridSpec): Grid => create(GridSchema, { ...grid });

export function gridFromWire(grid: Grid): GridSpec {
  const { lsbExponent, valueMaxExponent, weightMax, cohortMax } = grid;
  return { lsbExponent, valueMaxExponent, weightMax, cohortMax };
}
