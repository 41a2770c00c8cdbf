import { create, toBinary } from '@bufbuild/protobuf';
import { quantilesOf, shownQuantiles, type StatisticsResult } from '@commonweight/core';
import {
  ResultSchema,
  SignedResultSchema,
  StatisticsSchema,
  type Result,
  type SignedResult,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import type { BlobRecord, ResultRecord } from '../store/store.ts';
import { blobOf } from './registry.ts';

/** What a round of reports came to, as the store keeps it. */
export function resultRecord(signer: Signer, result: Omit<Result, '$typeName' | '$unknown'>): ResultRecord {
  const record = toBinary(ResultSchema, create(ResultSchema, result));
  const { task, round, model } = result;
  return { task, round: Number(round), model, record, signature: signer.sign('Result', record) };
}

export const resultToWire = (publicKey: Uint8Array, { record, signature }: ResultRecord): SignedResult =>
  create(SignedResultSchema, { result: record, signature, publicKey });

/** Statistics as a blob: they are as long as a model has inputs. */
export function statisticsBlob({ examples, features, labels }: StatisticsResult): BlobRecord {
  const message = create(StatisticsSchema, {
    examples: BigInt(examples),
    labels: labels.map(BigInt),
    shares: [...shownQuantiles],
    features: features.map((feature) => ({
      count: BigInt(feature.count),
      missing: BigInt(feature.missing),
      mean: feature.mean,
      variance: feature.variance,
      min: feature.min,
      max: feature.max,
      quantiles: quantilesOf(feature),
      bins: feature.bins.map(({ from, to, count }) => ({ from, to, count: BigInt(count) })),
    })),
  });
  return blobOf(toBinary(StatisticsSchema, message));
}
