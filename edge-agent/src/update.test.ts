import { create } from '@bufbuild/protobuf';
import { sha256, webCrypto } from '@commonweight/client-sdk';
import { seeded } from '@commonweight/core';
import { Encoding, GridSchema } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { makeUpdate } from './update.ts';

test('a browser makes of a training the very update that Node makes of it: id, header and bytes', async () => {
  const random = seeded('update');
  const vector = Float32Array.from({ length: 300 }, () => 0.1 * random.normal());
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 };
  const made = (digest: typeof sha256 | typeof webCrypto.sha256) =>
    makeUpdate({
      sha256: digest,
      deflate: undefined,
      agentId: 'a0',
      baseVersion: 3,
      residual: undefined,
      assignment: {
        task: 'train',
        round: 7n,
        planJson: JSON.stringify(plan),
        encoding: Encoding.MXINT8,
        topK: 0,
        rotationSeed: 0n,
        zstd: true,
        grid: create(GridSchema, { lsbExponent: -20, valueMaxExponent: 3, weightMax: 10, cohortMax: 10 }),
        seed: 5n,
        invitation: Uint8Array.of(1, 2, 3),
      },
      outcome: {
        result: {
          weights: vector,
          loss: 0.5,
          examples: 10,
          steps: 3,
          ms: 12,
          metrics: { base_accuracy: 0.5 },
          engine: 'ort-web',
          elsewhere: [],
        },
        parts: { vectors: [vector], numbers: [] },
      },
    });
  expect(await made(webCrypto.sha256)).toEqual(await made(sha256));
});
