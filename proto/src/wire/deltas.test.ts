import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ArtifactSchema, type Artifact } from '../gen/commonweight/v1/release_pb.ts';
import { deltaPaths } from './deltas.ts';

const digest = (version: number): Uint8Array => new Uint8Array(32).fill(version);
const delta = (from: number, to: number, size: number): Artifact =>
  create(ArtifactSchema, { role: 'delta', fromDigest: digest(from), toDigest: digest(to), size: BigInt(size) });
const to = (version: number, size: number) => ({ digest: digest(version), size: BigInt(size) });
const shown = (paths: ReturnType<typeof deltaPaths>): [number, number][] =>
  paths.map(({ from, bytes }) => [from[0]!, bytes]);

test('a chain leads from every version of it, the nearest first, as long as it is smaller than the weights', () => {
  const manifest = { artifacts: [delta(4, 5, 10)], earlierDeltas: [delta(3, 4, 20), delta(2, 3, 30), delta(1, 2, 40)] };
  expect(shown(deltaPaths(manifest, to(5, 100)))).toEqual([
    [4, 10],
    [3, 30],
    [2, 60],
  ]);
  expect(shown(deltaPaths(manifest, to(5, 101)))).toHaveLength(4);
  const [, , third] = deltaPaths(manifest, to(5, 100));
  expect(third!.deltas.map(({ fromDigest }) => fromDigest[0])).toEqual([2, 3, 4]);
});

test('of several ways the smallest is taken, and rings end', () => {
  const manifest = {
    artifacts: [delta(1, 3, 50), delta(2, 3, 10), delta(1, 2, 15)],
    earlierDeltas: [delta(3, 1, 1), delta(3, 3, 1), delta(2, 1, 1)],
  };
  expect(shown(deltaPaths(manifest, to(3, 1000)))).toEqual([
    [2, 10],
    [1, 25],
  ]);
});

test('deltas that lead elsewhere, and other artifacts, are left alone', () => {
  const other = create(ArtifactSchema, { role: 'weights', digest: digest(5), size: 100n });
  expect(deltaPaths({ artifacts: [other, delta(1, 2, 5)], earlierDeltas: [] }, to(5, 100))).toEqual([]);
});

test('every way leads there, in the fewest bytes of all', () => {
  const edge = fc.record({ from: fc.nat(6), to: fc.nat(6), size: fc.integer({ min: 1, max: 40 }) });
  fc.assert(
    fc.property(fc.array(edge, { maxLength: 25 }), fc.integer({ min: 1, max: 120 }), (edges, sizeMax) => {
      const deltas = edges.map(({ from, to: into, size }) => delta(from, into, size));
      // By relaxing every edge as often as there are versions.
      const cost = Array.from({ length: 7 }, (_, version) => (version === 6 ? 0 : Infinity));
      for (let i = 0; i < 7; i++) {
        for (const { from, to: into, size } of edges) cost[from] = Math.min(cost[from]!, cost[into]! + size);
      }
      const expected = cost.flatMap((bytes, version) => (version < 6 && bytes < sizeMax ? [[version, bytes]] : []));
      const paths = deltaPaths({ artifacts: deltas, earlierDeltas: [] }, to(6, sizeMax));
      expect(shown(paths).sort(([a], [b]) => a - b)).toEqual(expected);
      for (const { from, deltas: steps, bytes } of paths) {
        let at = from[0];
        for (const step of steps) {
          expect(step.fromDigest[0]).toBe(at);
          at = step.toDigest[0];
        }
        expect(at).toBe(6);
        expect(steps.reduce((sum, { size }) => sum + Number(size), 0)).toBe(bytes);
      }
    }),
  );
});
