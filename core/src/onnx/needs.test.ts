import { expect, test } from 'vitest';
import { create } from '@bufbuild/protobuf';
import { cnn } from '../models/cnn.ts';
import { quantizeModel, type QuantizedForm, type QuantizeOptions } from '../quantize/quantize.ts';
import { calibrationGraph } from '../quantize/calibration.ts';
import { graphOf } from './file.ts';
import { ModelProtoSchema, OperatorSetIdProtoSchema } from './gen/onnx/onnx_pb.ts';
import { lackOf, needsOf, onnxRuntimeAbilities, type ModelNeeds, type RuntimeAbilities } from './needs.ts';

const model = cnn({ height: 6, width: 6, channels: 1, filters: [2], kernel: 3, dense: 40, outputs: 3, seed: 1 });
const ranges = new Map(calibrationGraph(model).values.map((name) => [name, { min: -1, max: 1 }]));
const needs = (form: QuantizedForm, options: QuantizeOptions = {}): ModelNeeds =>
  needsOf(quantizeModel(model, form, options).model);
const { irVersion, operatorSets, operators } = needsOf(model);
const standard = operatorSets[0]!.version;

test('a float model needs the standard, its own operators and float32', () => {
  expect(operatorSets).toEqual([{ domain: '', version: standard }]);
  expect(operators).toContain('Conv');
  expect(needsOf(model).elementTypes).toContain('float');
  expect(irVersion).toBe(Number(model.irVersion));
});

test.each<[QuantizedForm, string[], string[]]>([
  ['dynamic-int8', ['DynamicQuantizeLinear', 'MatMulInteger'], ['int8']],
  ['static-int8', ['DequantizeLinear', 'QuantizeLinear'], ['int8', 'uint8']],
  ['int8-blocks', ['com.microsoft:MatMulNBits'], ['uint8']],
  ['int4-blocks', ['com.microsoft:MatMulNBits'], ['uint8']],
  ['fp16', ['Cast'], ['float16']],
])('%s needs what is in the graph that was made', (form, added, types) => {
  const of = needs(form, { ranges });
  expect(of.operators).toEqual(expect.arrayContaining(added));
  expect(of.elementTypes).toEqual(expect.arrayContaining(types));
  const isForeign = added.some((name) => name.startsWith('com.microsoft:'));
  expect(of.operatorSets.map(({ domain }) => domain)).toEqual(isForeign ? ['', 'com.microsoft'] : ['']);
  expect(of.operators).toEqual([...new Set(of.operators)].toSorted());
  expect(lackOf(of, onnxRuntimeAbilities)).toBeUndefined();
});

test('a set that is listed and not used is not needed, and ai.onnx is the standard', () => {
  const listed = create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 9n });
  const own = model.opsetImport.map((set) => ({ ...set, domain: 'ai.onnx' }));
  expect(needsOf({ ...model, opsetImport: [...own, listed] }).operatorSets).toEqual(operatorSets);
});

test('what is in branches is needed too', () => {
  const { graph } = quantizeModel(model, 'int8-blocks').model;
  const branching = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ version: 17n }, { domain: 'com.microsoft', version: 1n }],
    graph: { node: [{ opType: 'If', attribute: [{ name: 'then_branch', g: graph! }] }] },
  });
  expect(graphOf(branching).node).toHaveLength(1);
  expect(needsOf(branching)).toMatchObject({
    operatorSets: [
      { domain: '', version: 17 },
      { domain: 'com.microsoft', version: 1 },
    ],
    operators: expect.arrayContaining(['If', 'Conv', 'com.microsoft:MatMulNBits']) as string[],
  });
});

const bare: RuntimeAbilities = { irVersion: 20, operatorSets: { '': 26 } };
test.each<[string, QuantizedForm, RuntimeAbilities]>([
  ['MatMulNBits of com.microsoft', 'int4-blocks', bare],
  ['operator set 13 of ONNX', 'dynamic-int8', { ...bare, operatorSets: { '': 12 } }],
  ['files of ONNX format 8', 'fp16', { ...bare, irVersion: 7 }],
  ['float16', 'fp16', { ...bare, lacksType: (name) => name === 'float16' }],
  ['MatMulInteger', 'dynamic-int8', { ...bare, lacksOperator: (name) => name.endsWith('Integer') }],
])('%s is what a runtime lacks', (words, form, runtime) => {
  const of = needs(form);
  const exact = words
    .replace('set 13', `set ${of.operatorSets[0]!.version}`)
    .replace('format 8', `format ${of.irVersion}`);
  expect(lackOf(of, runtime)).toBe(exact);
});

test('an operator of a set that nobody lists is lacked too', () => {
  const strange: ModelNeeds = { irVersion: 8, operatorSets: [], operators: ['com.acme:Foo'], elementTypes: [] };
  expect(lackOf(strange, onnxRuntimeAbilities)).toBe('com.acme:Foo');
});
