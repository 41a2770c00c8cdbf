import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { mlp } from '../models/mlp.ts';
import { frontPart, trainedPart } from '../onnx/border.ts';
import { contractOf } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf, opsetOf, readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { joinModel, parametersOf, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { buildTrainingGraph } from '../training/training-graph.ts';
import { surveyTraining } from '../training/trainability.ts';
import type { TrainingPlan } from '../training/plan.ts';
import { buildPreprocess } from './build-front.ts';
import { withPreprocess } from './compose.ts';

const model = (): ModelProto => mlp({ inputs: 3, hidden: [4], outputs: 2, seed: 1 });
const table = (): ModelProto =>
  buildPreprocess([
    {
      name: 'input',
      steps: [
        { step: 'normalise', text: 'age=40,10' },
        { step: 'one-hot', text: 'city=Rome,Oslo' },
      ],
    },
  ]);
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 4,
};

async function outputs(
  onnx: ModelProto,
  feeds: Record<string, ort.Tensor>,
): Promise<ort.InferenceSession.OnnxValueMapType> {
  const session = await ort.InferenceSession.create(writeModel(onnx), { logSeverityLevel: 3 });
  const results = await session.run(feeds);
  await session.release();
  return results;
}

const floats = (values: number[], dims: number[]): ort.Tensor =>
  new ort.Tensor('float32', Float32Array.from(values), dims);
const people = { age: floats([50, 20], [2, 1]), city: new ort.Tensor('string', ['Oslo', 'Bern'], [2, 1]) };

test('both in one file answer as one after the other', async () => {
  const composed = readModel(writeModel(withPreprocess(model(), table())));
  const { input } = await outputs(table(), people);
  const { logits } = await outputs(model(), { input: floats([...(input!.data as Float32Array)], [2, 3]) });
  expect((await outputs(composed, people))['logits']!.data).toEqual(logits!.data);
  expect(contractOf(composed).inputs.map(({ name, dtype }) => `${name} ${dtype}`)).toEqual([
    'age float',
    'city string',
  ]);
});

test('what is trained is the model alone, and what it reads is what the front gives', () => {
  const composed = withPreprocess(model(), table());
  expect(parametersOf(composed)).toEqual(parametersOf(model()));
  const { graph, weights } = splitModel(composed);
  const split = readModel(graph);
  const training = buildTrainingGraph(split, plan);
  expect(training.data).toEqual([{ name: 'input/preprocessed', shape: [4, 3], dtype: 'float' }]);
  expect(training.model).toEqual(
    buildTrainingGraph(withInput(readModel(splitModel(model()).graph), 'input/preprocessed'), plan).model,
  );
  // No operator of the front is in its way, and it is there again when the weights are.
  expect(surveyTraining(composed, plan).obstacle).toBeUndefined();
  expect(readModel(joinModel(split, weights))).toEqual(readModel(writeModel(composed)));
});

/** The model with its one input under another name. */
function withInput(plain: ModelProto, name: string): ModelProto {
  const graph = graphOf(plain);
  const node = graph.node.map((one) => ({ ...one, input: one.input.map((own) => (own === 'input' ? name : own)) }));
  return { ...plain, graph: { ...graph, node, input: graph.input.map((value) => ({ ...value, name })) } };
}

test('either part can be had by itself', async () => {
  const composed = withPreprocess(model(), table());
  const front = frontPart(composed)!;
  expect(front.inputs.map(({ name }) => name)).toEqual(['age', 'city']);
  expect(front.outputs).toEqual([{ name: 'input/preprocessed', dtype: 'float', dims: [-1, 3] }]);
  const [[, made]] = Object.entries(await outputs(front.model, people)) as [[string, ort.Tensor]];
  expect([...(made.data as Float32Array)]).toEqual([1, 0, 1, -2, 0, 0]);
  expect(trainedPart(model())).toEqual(model());
  expect(frontPart(model())).toBeUndefined();
});

/** A front of one input and one output, both of three numbers. */
function front(
  node: NodeProto[],
  { opset = 17, input = 'x', output = 'y', initializer = [] as TensorProto[] } = {},
): ModelProto {
  const made = makeModel({
    name: 'front',
    node,
    initializer,
    input: [makeValue(input, ['batch', 3])],
    output: [makeValue(output, ['batch', 3])],
  });
  made.opsetImport[0]!.version = BigInt(opset);
  return made;
}

test('names that both have are kept apart, the input of both among them', async () => {
  // The front names its values as the model does.
  const same = front(
    [
      makeNode('Mul', ['input', 'hidden1.weight'], ['hidden1']),
      makeNode('Add', ['hidden1', 'hidden1.bias'], ['logits']),
    ],
    {
      input: 'input',
      output: 'logits',
      initializer: [
        floatTensor('hidden1.weight', [], Float32Array.of(2)),
        floatTensor('hidden1.bias', [3], Float32Array.of(1, 0, 0)),
      ],
    },
  );
  const composed = withPreprocess(model(), same);
  const { logits } = await outputs(model(), { input: floats([3, 4, 6], [1, 3]) });
  expect((await outputs(composed, { input: floats([1, 2, 3], [1, 3]) }))['logits']!.data).toEqual(logits!.data);
  expect(parametersOf(composed)).toEqual(parametersOf(model()));
});

test('a value of the model that an input of the front is named like gets another name', async () => {
  const [, relu] = graphOf(model()).node;
  const named = front([makeNode('Identity', [relu!.output[0]!], ['y'])], { input: relu!.output[0]! });
  const { logits } = await outputs(model(), { input: floats([1, 2, 3], [1, 3]) });
  const composed = withPreprocess(model(), named);
  expect((await outputs(composed, { [relu!.output[0]!]: floats([1, 2, 3], [1, 3]) }))['logits']!.data).toEqual(
    logits!.data,
  );
  const clash = front([makeNode('Identity', ['hidden1.weight'], ['y'])], { input: 'hidden1.weight' });
  expect(() => withPreprocess(model(), clash)).toThrow(
    "'hidden1.weight' is an input of the preprocessing graph and a name in the model; rename the input",
  );
});

test.each([
  [13, 20],
  [20, 13],
  [11, 18],
  [17, 17],
])('a model of operator set %i and a front of %i meet at the newer one', async (own, fronts) => {
  const reducing = (opset: number): NodeProto[] => [
    makeNode('ReduceMean', ['x'], ['mean'], { axes: [1], keepdims: 1 }),
    makeNode('Split', ['x'], ['a', 'b', 'c'], { axis: 1, ...(opset >= 18 ? { num_outputs: 3 } : {}) }),
    makeNode('Concat', ['c', 'mean', 'a'], ['y'], { axis: 1 }),
  ];
  const withAxes = (opset: number): ModelProto => {
    const made = front(reducing(opset), { opset });
    if (opset < 18) return made;
    const [mean, ...rest] = graphOf(made).node;
    const axes = {
      ...floatTensor('axes', [1], Float32Array.of(0)),
      dataType: 7,
      rawData: new Uint8Array(),
      int64Data: [1n],
    };
    return {
      ...made,
      graph: {
        ...graphOf(made),
        node: [{ ...mean!, attribute: mean!.attribute.slice(1), input: ['x', 'axes'] }, ...rest],
        initializer: [axes],
      },
    };
  };
  const [behind, before] = [withAxes(own), withAxes(fronts)];
  const composed = withPreprocess(behind, before);
  expect(opsetOf(composed)).toBe(Math.max(own, fronts));
  const x = floats([1, 2, 6], [1, 3]);
  const { y } = await outputs(before, { x });
  const { y: expected } = await outputs(behind, { x: y! });
  expect((await outputs(composed, { x }))['y']!.data).toEqual(expected!.data);
});

test('what does not fit is named', () => {
  const plain = front([makeNode('Identity', ['x'], ['y'])]);
  const two = makeModel({
    name: 'two',
    node: [makeNode('Add', ['a', 'b'], ['c'])],
    initializer: [],
    input: [makeValue('a', ['batch', 3]), makeValue('b', ['batch', 3])],
    output: [makeValue('c', ['batch', 3])],
  });
  expect(() => withPreprocess(two, plain)).toThrow(
    "output 'y' of the preprocessing graph is no input of the model, which has 'a' float[?, 3], 'b' float[?, 3]; give it the name of one",
  );
  const wide = mlp({ inputs: 4, hidden: [], outputs: 2, seed: 1 });
  expect(() => withPreprocess(wide, plain)).toThrow(
    "the preprocessing graph gives 'y' float[?, 3], and the model takes 'input' float[?, 4]",
  );
  const once = withPreprocess(model(), plain);
  expect(() => withPreprocess(once, plain)).toThrow('the model has a preprocessing graph already');
  const passing = front([makeNode('Identity', ['x'], ['z'])], { output: 'x' });
  expect(() => withPreprocess(model(), passing)).toThrow('is its input; put an Identity in between');
  const fixed = front([makeNode('Identity', ['x'], ['y'])]);
  fixed.graph!.output[0] = makeValue('y', [1, 3]);
  expect(() => withPreprocess(model(), fixed)).toThrow(OnnxError);
  expect(() => withPreprocess(model(), fixed)).toThrow('has a fixed batch');
});

test('one input of several may have a front, and the others stay as they are', async () => {
  const two = makeModel({
    name: 'two',
    node: [makeNode('Add', ['a', 'b'], ['sum']), makeNode('Mul', ['sum', 'w'], ['c'])],
    initializer: [floatTensor('w', [3], Float32Array.of(1, 2, 3))],
    input: [makeValue('a', ['batch', 3]), makeValue('b', ['batch', 3])],
    output: [makeValue('c', ['batch', 3])],
  });
  const composed = withPreprocess(two, front([makeNode('Neg', ['x'], ['a'])], { output: 'a' }));
  expect(contractOf(composed).inputs.map(({ name }) => name)).toEqual(['x', 'b']);
  const { c } = await outputs(composed, { x: floats([1, 1, 1], [1, 3]), b: floats([2, 3, 4], [1, 3]) });
  expect([...(c!.data as Float32Array)]).toEqual([1, 4, 9]);
  const training = buildTrainingGraph(readModel(splitModel(composed).graph), { ...plan, loss: 'mse' });
  expect(training.data.map(({ name }) => name)).toEqual(['a/preprocessed', 'b']);
});
