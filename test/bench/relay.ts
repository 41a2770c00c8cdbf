/**
 * Bytes on a relay's uplink, as a share of what its agents' updates take without it: one part with its headers, as the relay makes it, against
 * the payloads. Updates of 200,000 normal values, weighted like agents with 100 and more examples.
 */
import { toBinary } from '@bufbuild/protobuf';
import { encodings, ExactSum, gridFor, seeded, type EncodingName } from '@commonweight/core';
import { UpdateHeaderSchema } from '@commonweight/proto';
import { packedPart } from '../../coordinator/src/relay/packed-part.ts';
import { updateOf } from '../support/training.ts';

const LENGTH = 200_000;
const AGENTS = [4, 16, 64];
const ENCODINGS: readonly EncodingName[] = ['float32', 'mxint8', 'mxint4'];

export async function run(): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 100_000, cohortMax: 64 });
  for (const encoding of ENCODINGS) {
    const sum = new ExactSum(LENGTH, grid);
    const headers: ReturnType<typeof updateOf>['header'][] = [];
    let alone = 0;
    for (let i = 1; i <= Math.max(...AGENTS); i++) {
      const random = seeded(`${encoding} ${i}`);
      const values = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.01);
      const payload = encodings[encoding].encode(values, grid, random);
      const weight = 100 + i;
      sum.add(encoding, payload, weight);
      headers.push(updateOf(`agent-${i}`, grid, { payload, weight: BigInt(weight) }, { encoding, topK: 1 }).header);
      alone += payload.length;
      if (!AGENTS.includes(i)) continue;
      const part = await packedPart(headers, sum.toBytes());
      const sent = headers.reduce((bytes, one) => bytes + toBinary(UpdateHeaderSchema, one).length, part.sum.length);
      figures[`uplink_ratio_${encoding}_${i}`] = sent / alone;
    }
  }
  return figures;
}
