import { elementKind, OrtEngine, type Session, type Tensor } from '@commonweight/client-sdk';
import { contractOf, mlp, quantizeModel, seeded, writeModel, type ModelProto } from '@commonweight/core';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { ServingError } from '../errors.ts';
import { Batcher, type BatcherParts, type Answer } from './batcher.ts';
import { rowIndependence } from './row-independence.ts';

const engine = new OrtEngine();
afterAll(() => engine.close());

const options = { batchMax: 8, batchDelayMs: 0, queueMax: 100, runsMax: 1 };
const forever = new AbortController().signal;

function batcherOf(predict: BatcherParts['predict'], more: Partial<BatcherParts> = {}): Batcher {
  return new Batcher({ model: 'm', options, predict, isBatchable: () => true, check: () => {}, ...more });
}

async function run(session: Session, inputs: Record<string, Tensor>): Promise<Answer> {
  const feeds = Object.entries(inputs).map(([name, { data, dims }]) => [
    name,
    { type: elementKind('float')!.type, data: data.slice(), dims },
  ]);
  const outputs = await session.run(Object.fromEntries(feeds) as Parameters<Session['run']>[0]);
  return { outputs, version: 1 };
}

const rowsOf = (rows: number, size: number, seed: number): Record<string, Tensor> => {
  const random = seeded(seed);
  return { input: { data: Float32Array.from({ length: rows * size }, () => random.normal()), dims: [rows, size] } };
};

/** A model that doubles, kept busy until it is let go, with what it was asked. */
function doubling(): { batcher(more?: Partial<BatcherParts>): Batcher; asked: number[]; free(): void } {
  const asked: number[] = [];
  const gate = Promise.withResolvers<void>();
  const predict = async ({ input }: Record<string, Tensor>): Promise<Answer> => {
    const { data, dims } = input!;
    asked.push(dims[0]!);
    await gate.promise;
    if ((data as Float32Array).some((value) => value < 0)) throw new Error('a negative number');
    return { outputs: { output: { data: (data as Float32Array).map((value) => 2 * value), dims } }, version: 1 };
  };
  return { batcher: (more) => batcherOf(predict, more), asked, free: gate.resolve };
}

const one = (value: number): Record<string, Tensor> => ({ input: { data: Float32Array.of(value), dims: [1, 1] } });
const valueOf = ({ outputs }: Answer): number => Number(outputs['output']!.data[0]);

test('what comes while the model is busy runs together, and each gets its own rows', async () => {
  const { batcher, asked, free } = doubling();
  const door = batcher();
  const answers = [1, 2, 3, 4].map((value) => door.predict(one(value), undefined, forever));
  free();
  expect((await Promise.all(answers)).map(valueOf)).toEqual([2, 4, 6, 8]);
  expect(asked).toEqual([1, 3]);
});

test('a request that the model fails on does not fail those that ran with it', async () => {
  const { batcher, free } = doubling();
  const door = batcher();
  const answers = [1, 2, -3, 4].map((value) => door.predict(one(value), undefined, forever));
  free();
  const settled = await Promise.allSettled(answers);
  expect(settled.map((each) => (each.status === 'fulfilled' ? valueOf(each.value) : String(each.reason)))).toEqual([
    2,
    4,
    'ServingError: the prediction failed: a negative number',
    8,
  ]);
});

test('a full queue refuses, and what waits is still answered', async () => {
  const { batcher, free } = doubling();
  const door = batcher({ options: { ...options, queueMax: 2 } });
  const answers = [1, 2, 3].map((value) => door.predict(one(value), undefined, forever));
  await expect(door.predict(one(4), undefined, forever)).rejects.toMatchObject({ reason: 'queue-full', passing: true });
  free();
  expect((await Promise.all(answers)).map(valueOf)).toEqual([2, 4, 6]);
});

test('a request that is given up leaves the queue', async () => {
  const { batcher, asked, free } = doubling();
  const door = batcher();
  const leaver = new AbortController();
  const first = door.predict(one(1), undefined, forever);
  const second = door.predict(one(2), undefined, leaver.signal);
  leaver.abort();
  await expect(second).rejects.toMatchObject({ reason: 'cancelled' });
  free();
  expect(valueOf(await first)).toBe(2);
  expect({ asked, waiting: door.length }).toEqual({ asked: [1], waiting: 0 });
});

test('a version that is gone when its turn comes is refused, not answered by another', async () => {
  let serving = 1;
  const check = (version: number | undefined): void => {
    if (version !== undefined && version !== serving) throw new ServingError('unknown-version', `not ${version}`);
  };
  const { batcher, free } = doubling();
  const door = batcher({ check });
  const [first, pinned, any] = [undefined, 1, undefined].map((version) => door.predict(one(1), version, forever));
  serving = 2;
  free();
  await expect(pinned).rejects.toMatchObject({ reason: 'unknown-version' });
  expect([valueOf(await first!), valueOf(await any!)]).toEqual([2, 2]);
});

test('closing refuses what waits and what comes', async () => {
  const { batcher, free } = doubling();
  const door = batcher();
  const [running, waiting] = [1, 2].map((value) => door.predict(one(value), undefined, forever));
  door.close();
  free();
  await expect(waiting).rejects.toMatchObject({ reason: 'not-ready' });
  await expect(door.predict(one(3), undefined, forever)).rejects.toMatchObject({ reason: 'not-ready' });
  expect(valueOf(await running!)).toBe(2);
});

test('predictions in batches are those of each request by itself', async () => {
  const size = 12;
  const session = await engine.load(writeModel(mlp({ inputs: size, hidden: [16], outputs: 5, seed: 3 })));
  const requests = fc.array(fc.record({ rows: fc.integer({ min: 1, max: 5 }), seed: fc.nat() }), {
    minLength: 1,
    maxLength: 12,
  });
  const policies = fc.record({ batchMax: fc.integer({ min: 1, max: 12 }), batchDelayMs: fc.constantFrom(0, 1) });
  await fc.assert(
    fc.asyncProperty(requests, policies, async (given, policy) => {
      const runs: number[] = [];
      const door = batcherOf((inputs) => run(session, inputs), {
        options: { ...options, ...policy },
        onRun: (rows) => runs.push(rows),
      });
      const inputs = given.map(({ rows, seed }) => rowsOf(rows, size, seed));
      const together = await Promise.all(inputs.map((input) => door.predict(input, undefined, forever)));
      for (const [index, input] of inputs.entries()) {
        const alone = (await run(session, input)).outputs['logits']!;
        const batched = together[index]!.outputs['logits']!;
        expect(batched.dims).toEqual(alone.dims);
        (alone.data as Float32Array).forEach((value, place) => expect(batched.data[place]).toBeCloseTo(value, 5));
      }
      expect(runs.reduce((sum, rows) => sum + rows, 0)).toBe(given.reduce((sum, { rows }) => sum + rows, 0));
    }),
    { numRuns: 40 },
  );
});

const wide = mlp({ inputs: 32, hidden: [64], outputs: 4, seed: 1 });

const independence = async (model: ModelProto) => {
  const session = await engine.load(writeModel(model));
  return await rowIndependence(contractOf(model), (inputs) => run(session, inputs));
};

test('rows of an MLP stand by themselves', async () => {
  expect(await independence(wide)).toEqual({ isBatchable: true });
});

test('a form that measures its range over all rows is not run on several requests', async () => {
  expect(await independence(quantizeModel(wide, 'dynamic-int8').model)).toEqual({
    isBatchable: false,
    why: "a row of 'logits' depends on which others run with it",
  });
});

test('a model whose first dimension is fixed takes no batches', async () => {
  const { inputs, outputs } = contractOf(wide);
  const fixed = { inputs: inputs.map((input) => ({ ...input, dims: [1, 32] })), outputs };
  const never = (): Promise<Answer> => Promise.reject(new Error('not to be asked'));
  expect(await rowIndependence(fixed, never)).toEqual({
    isBatchable: false,
    why: "the first dimension of 'input' is not open",
  });
});
