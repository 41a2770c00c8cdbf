/** Every form of a convolution computes what the plain one does, forward and both gradients; the plain one is checked by finite differences. */
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { blockSize } from '../../../edge-agent/src/training/engines/block-size.ts';
import { generator } from '../../../test/reference/differences.ts';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { blockedConv, setUp, smallConv } from '../../../test/reference/gradient-cases.ts';
import type { Case } from '../../../test/reference/gradient-cases.ts';
import { writeModel } from '../onnx/file.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { blockedDomain } from './blocked-convolution.ts';
import type { GradientForms } from './forms.ts';

type Setup = ReturnType<typeof setUp>;

/** The same convolution with the same numbers, in two forms. */
function inForms(
  makeCase: (dice: (...sides: readonly number[]) => number) => Case,
  seed: number,
  forms: GradientForms,
) {
  const at = (own: GradientForms): Setup => {
    const uniform = generator(seed);
    const example = makeCase((...sides) => sides[Math.floor(uniform() * sides.length)]!);
    return setUp('Conv', example, uniform, own);
  };
  return { plain: at({}), other: at(forms) };
}

/** The output and the gradients of all inputs. */
function results({ graph, names, found, feeds, blocks }: Setup): number[][] {
  const values = evaluate(graph, feeds, blocks);
  return ['y', ...names.map((name) => found.get(name)!)].map((name) => [...values.get(name)!]);
}

const forms = [
  ['as matrices', smallConv, { matrices: true }],
  ['in blocks of two', blockedConv(2), { blocks: 2 }],
  ['in blocks of three', blockedConv(3), { blocks: 3 }],
] as const;

test.each(forms)('a convolution %s is the plain one, and so are its gradients', (_, makeCase, own) => {
  let written = 0;
  for (let seed = 0; seed < 120; seed++) {
    const { plain, other } = inForms(makeCase, seed, own);
    if (other.graph.nodes.every(({ opType, domain }) => domain === blockedDomain || opType !== 'Conv')) written++;
    const wanted = results(plain);
    results(other).forEach((values, index) => {
      expect(values.length).toBe(wanted[index]!.length);
      values.forEach((value, at) => expect(value).toBeCloseTo(wanted[index]![at]!, 9));
    });
  }
  expect(written).toBeGreaterThan(20);
});

test('ONNX Runtime computes a convolution in the blocks of this processor as the plain one', async () => {
  const blocks = await blockSize(ort.InferenceSession.create.bind(ort.InferenceSession));
  // A processor without blocks has nothing to compare.
  if (blocks === undefined) return;
  let written = 0;
  for (let seed = 0; seed < 40; seed++) {
    const { plain, other } = inForms(blockedConv(blocks), seed, { blocks });
    if (other.graph.nodes.some(({ domain }) => domain === blockedDomain)) written++;
    const wanted = await computed(plain);
    (await computed(other)).forEach((values, index) => {
      expect(values.length).toBe(wanted[index]!.length);
      const size = 1 + wanted[index]!.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      values.forEach((value, at) => expect(Math.abs(value - wanted[index]![at]!) / size).toBeLessThan(1e-5));
    });
  }
  expect(written).toBeGreaterThan(10);
});

/** What ONNX Runtime makes of it: the output and the gradients. */
async function computed({ graph, names, found, feeds }: Setup): Promise<Float32Array[]> {
  const outputs = ['y', ...names.map((name) => found.get(name)!)];
  const model = makeModel({
    name: 'gradient',
    domains: [...new Set(graph.nodes.map(({ domain }) => domain))],
    node: graph.nodes,
    initializer: graph.initializers,
    input: graph.inputs,
    output: outputs.map((name) => makeValue(name, graph.shapeOf(name))),
  });
  const session = await ort.InferenceSession.create(writeModel(model), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const tensors = [...feeds].map(([name, data]) => {
    return [name, new ort.Tensor('float32', Float32Array.from(data), graph.shapeOf(name))] as const;
  });
  const values = await session.run(Object.fromEntries(tensors));
  await session.release();
  return outputs.map((name) => values[name]!.data as Float32Array);
}
