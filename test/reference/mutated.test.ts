/** Exported models with something wrong in them: training and preparing them is refused with an error of ours, or works. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OnnxError, readModel, surveyTraining, writeModel, type TrainingPlan } from '@commonweight/core';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { prepare } from '../../core/src/quantize/prepare.ts';

const folder = join(import.meta.dirname, 'gradients');
const models = readdirSync(folder).flatMap((name) => {
  if (!name.endsWith('.json')) return [];
  const { model } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as { model: string };
  return [Buffer.from(model, 'base64')];
});
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 4,
};
const numbers = [0n, 1n, -1n, 2n, -5n, 7n, 1000n, 2n ** 31n, -(2n ** 62n), 2n ** 62n];

const mutation = fc.record({
  node: fc.nat(),
  place: fc.nat(),
  kind: fc.constantFrom('input gone', 'input twice', 'number', 'attribute gone', 'shape turned', 'operator'),
  number: fc.constantFrom(...numbers),
});

type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

function mutate({ graph }: ReturnType<typeof readModel>, { node: at, place, kind, number }: Mutation): void {
  const { node: nodes, initializer } = graph!;
  const node = nodes[at % nodes.length]!;
  const attribute = node.attribute[place % Math.max(1, node.attribute.length)];
  const tensor = initializer[place % initializer.length]!;
  switch (kind) {
    case 'input gone':
      return void node.input.splice(place % Math.max(1, node.input.length), 1);
    case 'input twice':
      return void node.input.push(node.input[0] ?? '');
    case 'number':
      if (attribute?.t !== undefined) attribute.t.dims = [number];
      else if (attribute !== undefined && attribute.ints.length > 0)
        attribute.ints[place % attribute.ints.length] = number;
      else if (attribute !== undefined) attribute.i = number;
      return;
    case 'attribute gone':
      return void node.attribute.splice(place % Math.max(1, node.attribute.length), 1);
    case 'shape turned':
      tensor.dims = tensor.dims.toReversed();
      return;
    case 'operator':
      node.opType = nodes[place % nodes.length]!.opType;
  }
}

test('a model with something wrong in it is refused in words, or can be prepared for a form and trained', () => {
  fc.assert(
    fc.property(fc.nat(models.length - 1), fc.array(mutation, { minLength: 1, maxLength: 3 }), (index, mutations) => {
      const model = readModel(models[index]!);
      for (const one of mutations) mutate(model, one);
      try {
        prepare(readModel(writeModel(model)));
        const { obstacle, stepBytes } = surveyTraining(readModel(writeModel(model)), plan);
        expect(obstacle ?? stepBytes).toBeDefined();
      } catch (error) {
        expect(error).toBeInstanceOf(OnnxError);
      }
    }),
    { numRuns: 400 },
  );
});
