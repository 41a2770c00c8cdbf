import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cnn } from '../models/cnn.ts';
import { mlp } from '../models/mlp.ts';
import { quantizedForms, quantizeModel } from '../quantize/quantize.ts';
import { calibrationGraph } from '../quantize/calibration.ts';
import { graphOf, readModel } from './file.ts';
import { ModelProtoSchema, TensorProto_DataType, type ModelProto } from './gen/onnx/onnx_pb.ts';
import { floatTensor } from './tensor-data.ts';
import { writeModel } from './write.ts';

const byLibrary = (model: ModelProto): Uint8Array => toBinary(ModelProtoSchema, model);
const models = {
  mlp: mlp({ inputs: 64, hidden: [100], outputs: 10, seed: 1 }),
  cnn: cnn({ height: 12, width: 12, channels: 1, filters: [8], kernel: 5, dense: 64, outputs: 10, seed: 1 }),
};

test.each(Object.entries(models))('%s and its forms have the bytes that the library gives them', (_, model) => {
  const ranges = new Map(calibrationGraph(model).values.map((name) => [name, { min: -1, max: 1 }]));
  const forms = quantizedForms.map((form) => quantizeModel(model, form, { ranges }).model);
  for (const each of [model, ...forms]) expect(Buffer.compare(writeModel(each), byLibrary(each))).toBe(0);
});

test('so has any model, of tensors of any size and with what is not known of it', () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 4 });
  const unknown = fc.option(fc.uint8Array({ maxLength: 9 }), { nil: undefined });
  fc.assert(
    fc.property(sizes, unknown, fc.string(), (lengths, data, text) => {
      const extra =
        data === undefined ? {} : { $unknown: [{ no: 25, wireType: 2, data: Uint8Array.of(data.length, ...data) }] };
      const graph = graphOf(models.mlp);
      const initializer = lengths.map((length, at) => ({
        ...floatTensor(`${text} ${at}`, [length], new Float32Array(length).fill(at)),
        docString: text,
        dataType: TensorProto_DataType.FLOAT,
        ...extra,
      }));
      const model = {
        ...models.mlp,
        ...extra,
        docString: text,
        graph: { ...graph, initializer, docString: text, ...extra },
      };
      expect(Buffer.compare(writeModel(model), byLibrary(model))).toBe(0);
    }),
  );
});

test('a model without a graph, and one that was read', () => {
  const bare = create(ModelProtoSchema, { irVersion: 8n });
  expect(writeModel(bare)).toEqual(byLibrary(bare));
  const bytes = writeModel(models.cnn);
  expect(Buffer.compare(writeModel(readModel(bytes)), bytes)).toBe(0);
});
