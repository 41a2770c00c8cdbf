import { expect, test } from 'vitest';
import { elemTypeOf } from '../../../core/src/onnx/contract.ts';
import { writeModel } from '../../../core/src/onnx/file.ts';
import { makeModel, makeNode, makeValue } from '../../../core/src/onnx/nodes.ts';
import { OrtEngine } from './ort-engine.ts';
import { elementKind, type TypedTensor } from './tensor.ts';

/** A model that answers with its input. */
const echo = (dtype: string): Uint8Array =>
  writeModel(
    makeModel({
      name: 'echo',
      node: [makeNode('Identity', ['x'], ['y'])],
      initializer: [],
      input: [makeValue('x', ['n'], elemTypeOf(dtype))],
      output: [makeValue('y', ['n'], elemTypeOf(dtype))],
    }),
  );

test.each<[string, TypedTensor['data']]>([
  ['float', Float32Array.of(0.5, -1)],
  ['double', Float64Array.of(Math.PI)],
  ['float16', Float32Array.of(0.5, -65504, 2 ** -24)],
  ['int8', Int8Array.of(-128)],
  ['uint8', Uint8Array.of(255)],
  ['int16', Int16Array.of(-32768)],
  ['uint16', Uint16Array.of(65535)],
  ['int32', Int32Array.of(-(2 ** 31))],
  ['uint32', Uint32Array.of(2 ** 32 - 1)],
  ['int64', BigInt64Array.of(-(2n ** 63n))],
  ['uint64', BigUint64Array.of(2n ** 64n - 1n)],
  ['bool', Uint8Array.of(1, 0)],
  ['string', ['', 'zw\u00f6lf', '\u6f22']],
])('%s goes through the runtime unchanged', async (dtype, data) => {
  const engine = new OrtEngine({ threads: 1 });
  try {
    const session = await engine.load(echo(dtype));
    const { type } = elementKind(dtype)!;
    const { y } = await session.run({ x: { type, data: data.slice(), dims: [data.length] } });
    expect(y).toEqual({ type, data, dims: [data.length] });
    await session.release();
  } finally {
    await engine.close();
  }
});
