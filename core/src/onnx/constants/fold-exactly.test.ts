/** Folded constants against what onnxruntime computes, bit for bit. */
import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { readConstant, room, writeConstant } from './constant.ts';
import type { Constant } from './constant.ts';
import { foldNode } from './fold-node.ts';
import { writeModel } from '../file.ts';
import { TensorProto_DataType } from '../gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../graph-builder.ts';
import { makeModel, makeNode, makeValue } from '../nodes.ts';
import type { Attributes } from '../nodes.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { Shape } from '../../tensor/shape.ts';

const { BOOL, DOUBLE, FLOAT, INT32, INT64, INT8, UINT8 } = TensorProto_DataType;

const typeNames: Readonly<Record<number, string>> = {
  [FLOAT]: 'float32',
  [DOUBLE]: 'float64',
  [INT32]: 'int32',
  [INT64]: 'int64',
  [INT8]: 'int8',
  [UINT8]: 'uint8',
  [BOOL]: 'bool',
};

/** What is folded, and what the runtime makes of the same node without folding it itself. */
async function bothWays(
  opType: string,
  constants: readonly Constant[],
  attributes: Attributes = {},
): Promise<{ folded: Constant | undefined; run: ort.Tensor }> {
  const names = constants.map((_, index) => `c${index}`);
  const graph = new GraphBuilder('t/');
  constants.forEach((constant, index) => graph.initializer(writeConstant(names[index]!, constant)));
  const node = makeNode(opType, names, ['y'], attributes);
  graph.append(node);
  const constant = (position: number): Constant | undefined => constants[position];
  const output = graph.typeOf('y');
  const folded = foldNode({ ...graph.site(node), output, constant }, 1e6);
  const initializer = graph.initializers;
  const outputs = [makeValue('y', output.shape, output.elemType)];
  const model = makeModel({ name: 'one', node: [node], initializer, input: [], output: outputs });
  const session = await ort.InferenceSession.create(writeModel(model), {
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
  });
  try {
    return { folded, run: (await session.run({}))['y']! };
  } finally {
    await session.release();
  }
}

function expectSame(folded: Constant | undefined, run: ort.Tensor): void {
  expect(folded).toBeDefined();
  expect([typeNames[folded!.elemType], folded!.shape]).toEqual([run.type, [...run.dims]]);
  const [ours, theirs] = [folded!.data, run.data as unknown as ArrayBufferView];
  const bytes = (view: ArrayBufferView): number[] => [
    ...new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength),
  ];
  expect(bytes(ours)).toEqual(bytes(theirs));
}

const numbers: Readonly<Record<number, fc.Arbitrary<number | bigint>>> = {
  [FLOAT]: fc.oneof(fc.float({ noNaN: true }), fc.integer({ min: -4, max: 4 })),
  [DOUBLE]: fc.oneof(fc.double({ noNaN: true }), fc.integer({ min: -4, max: 4 })),
  [INT32]: fc.oneof(fc.integer(), fc.integer({ min: -4, max: 4 })),
  [INT64]: fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -4n, max: 4n })),
  [INT8]: fc.integer({ min: -128, max: 127 }),
  [UINT8]: fc.integer({ min: 0, max: 255 }),
  [BOOL]: fc.integer({ min: 0, max: 1 }),
};

/** Numbers of a type in a shape; integers that are divided by are no zeros. */
const constantOf = (elemType: number, shape: Shape, isDivisor = false): fc.Arbitrary<Constant> => {
  const length = sizeOf(shape);
  const one = numbers[elemType]!.filter((value) => !isDivisor || (Number(value) !== 0 && Number(value) !== -1));
  return fc.array(one, { minLength: length, maxLength: length }).map((values) => {
    const data = room(elemType, length)!;
    values.forEach((value, at) => (data[at] = value));
    return { shape, elemType, data };
  });
};

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 });
/** Two shapes that broadcast to one another: some axes are one, and the second may have fewer. */
const pairs = fc
  .tuple(shapes, fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), fc.nat({ max: 3 }))
  .map(([shape, ones, dropped]): [Shape, Shape] => [
    shape,
    shape.map((size, axis) => (ones[axis] === true ? 1 : size)).slice(Math.min(dropped, shape.length)),
  ]);

const someTypes = (...types: number[]): fc.Arbitrary<number> => fc.constantFrom(...types);
const listOf = (...list: readonly number[]): Constant => ({
  shape: [list.length],
  elemType: INT64,
  data: BigInt64Array.from(list, BigInt),
});

interface Case {
  constants: readonly Constant[];
  attributes?: Attributes;
}

const two = (types: fc.Arbitrary<number>, attributes: Attributes = {}, isDivided = false): fc.Arbitrary<Case> =>
  fc
    .tuple(types, pairs)
    .chain(([type, [a, b]]) => fc.tuple(constantOf(type, a), constantOf(type, b, isDivided && type !== FLOAT)))
    .map((constants) => ({ constants, attributes }));

const one = (types: fc.Arbitrary<number>): fc.Arbitrary<Case> =>
  fc
    .tuple(types, shapes)
    .chain(([type, shape]) => constantOf(type, shape))
    .map((constant) => ({ constants: [constant] }));

const held = someTypes(FLOAT, DOUBLE, INT32, INT64, BOOL);
const computed = someTypes(FLOAT, DOUBLE, INT32, INT64);
const floats = someTypes(FLOAT, DOUBLE);
const integers = someTypes(INT32, INT64);

/** One tensor of some rank, and what is done to it. */
const moved = (
  rankMin: number,
  rest: (shape: Shape) => fc.Arbitrary<{ more?: readonly Constant[]; attributes?: Attributes }>,
  types = held,
): fc.Arbitrary<Case> =>
  fc
    .tuple(types, fc.array(fc.integer({ min: 1, max: 4 }), { minLength: rankMin, maxLength: 3 }))
    .chain(([type, shape]) => fc.tuple(constantOf(type, shape), rest(shape)))
    .map(([constant, { more = [], attributes = {} }]) => ({ constants: [constant, ...more], attributes }));

const axisOf = (shape: Shape): fc.Arbitrary<number> => fc.integer({ min: -shape.length, max: shape.length - 1 });

const reduced = moved(
  1,
  (shape) =>
    fc
      .tuple(axisOf(shape), fc.nat({ max: 1 }))
      .map(([axis, keepdims]) => ({ attributes: { axes: [axis], keepdims } as Attributes })),
  integers,
);

test.each<[string, fc.Arbitrary<Case>]>([
  ['Add', two(computed)],
  ['Sub', two(computed)],
  ['Mul', two(computed)],
  ['Div', two(computed, {}, true)],
  ['Mod', two(integers, {}, true)],
  ['Mod', two(computed, { fmod: 1 }, true)],
  ['Min', two(computed)],
  ['Max', two(computed)],
  ['Neg', one(computed)],
  ['Abs', one(computed)],
  ['Sqrt', one(floats)],
  ['Floor', one(floats)],
  ['Ceil', one(floats)],
  ['Equal', two(held)],
  ['Less', two(computed)],
  ['LessOrEqual', two(computed)],
  ['Greater', two(computed)],
  ['GreaterOrEqual', two(computed)],
  ['And', two(someTypes(BOOL))],
  ['Or', two(someTypes(BOOL))],
  ['Xor', two(someTypes(BOOL))],
  ['Not', one(someTypes(BOOL))],
  ['ReduceProd', reduced],
  ['ReduceMax', reduced],
  ['ReduceMin', reduced],
  [
    'ReduceSum',
    moved(
      1,
      (shape) =>
        fc
          .tuple(axisOf(shape), fc.nat({ max: 1 }))
          .map(([axis, keepdims]) => ({ more: [listOf(axis)], attributes: { keepdims } })),
      integers,
    ),
  ],
  [
    'Cast',
    fc.tuple(one(someTypes(FLOAT, DOUBLE, INT32, INT64, INT8, UINT8, BOOL)), held).map(([{ constants }, to]) => ({
      constants,
      attributes: { to },
    })),
  ],
  ['Identity', one(held)],
  ['Flatten', moved(1, (shape) => axisOf(shape).map((axis) => ({ attributes: { axis } })))],
  ['Reshape', moved(1, (shape) => fc.constant({ more: [listOf(-1, shape[0]!)] }))],
  ['Unsqueeze', moved(0, (shape) => fc.nat({ max: shape.length }).map((axis) => ({ more: [listOf(axis)] })))],
  ['Squeeze', one(held)],
  ['Shape', one(held)],
  ['Shape', moved(2, () => fc.constantFrom({ attributes: { start: 1 } }, { attributes: { start: -2, end: -1 } }))],
  ['Size', one(held)],
  ['ConstantOfShape', shapes.map((shape) => ({ constants: [listOf(...shape)] }))],
  [
    'Range',
    fc
      .tuple(
        fc.boolean(),
        fc.tuple(fc.integer({ min: -9, max: 9 }), fc.integer({ min: -9, max: 9 }), fc.constantFrom(-3, -1, 1, 2)),
      )
      .map(([isWide, list]) => ({
        constants: list.map((value) =>
          isWide ? { ...listOf(value), shape: [] } : { shape: [], elemType: INT32, data: Int32Array.of(value) },
        ),
      })),
  ],
  [
    'Concat',
    fc
      .tuple(held, shapes, fc.integer({ min: 1, max: 4 }))
      .filter(([, shape]) => shape.length > 0)
      .chain(([type, shape, other]) =>
        fc
          .tuple(constantOf(type, shape), constantOf(type, shape.with(-1, other)))
          .map((constants) => ({ constants, attributes: { axis: -1 } })),
      ),
  ],
  [
    'Gather',
    moved(1, (shape) =>
      axisOf(shape).chain((axis) => {
        const size = shape.at(axis)!;
        return fc
          .array(fc.integer({ min: -size, max: size - 1 }), { minLength: 1, maxLength: 4 })
          .map((list) => ({ more: [{ ...listOf(...list), shape: [1, list.length] }], attributes: { axis } }));
      }),
    ),
  ],
  [
    'Slice',
    moved(1, (shape) =>
      fc
        .tuple(...[-5, -5].map((min) => fc.integer({ min, max: 5 })), fc.constantFrom(-2, -1, 1, 2), axisOf(shape))
        .map(([start, end, step, axis]) => ({
          more: [listOf(start!), listOf(end!), listOf(axis!), listOf(step!)],
        })),
    ),
  ],
  [
    'Transpose',
    moved(1, (shape) =>
      fc
        .shuffledSubarray([...shape.keys()], { minLength: shape.length })
        .map((perm) => ({ attributes: { perm } as Attributes })),
    ),
  ],
  ['Transpose', one(held)],
  [
    'Expand',
    fc
      .tuple(held, pairs)
      .chain(([type, [whole, part]]) =>
        constantOf(type, part).map((constant) => ({ constants: [constant, listOf(...whole)] })),
      ),
  ],
  [
    'Tile',
    moved(1, (shape) =>
      fc
        .array(fc.integer({ min: 1, max: 3 }), { minLength: shape.length, maxLength: shape.length })
        .map((repeats) => ({ more: [listOf(...repeats)] })),
    ),
  ],
  [
    'Where',
    fc
      .tuple(someTypes(FLOAT, INT32, INT64), pairs)
      .chain(([type, [a, b]]) => fc.tuple(constantOf(BOOL, b), constantOf(type, a), constantOf(type, b)))
      .map((constants) => ({ constants })),
  ],
  [
    'Trilu',
    moved(
      2,
      () =>
        fc.tuple(fc.integer({ min: -3, max: 3 }), fc.nat({ max: 1 })).map(([diagonal, upper]) => ({
          more: [{ ...listOf(diagonal), shape: [] }],
          attributes: { upper },
        })),
      someTypes(FLOAT, DOUBLE, INT64),
    ),
  ],
])(
  '%s is folded to the bits that onnxruntime computes, or left alone where it is nobody’s promise',
  async (opType, cases) => {
    let folds = 0;
    await fc.assert(
      fc.asyncProperty(cases, async ({ constants, attributes }) => {
        const { folded, run } = await bothWays(opType, constants, attributes);
        if (folded === undefined) return;
        folds += 1;
        expectSame(folded, run);
      }),
      { numRuns: 60 },
    );
    expect(folds).toBeGreaterThan(5);
  },
);

test('a constant is read as it was written, whichever of ONNX’s ways stores it', () => {
  fc.assert(
    fc.property(
      held.chain((type) => constantOf(type, [2, 3])),
      (constant) => {
        const tensor = writeConstant('c', constant);
        expect(readConstant(tensor)).toEqual(constant);
        const list = [...constant.data] as never;
        const { elemType } = constant;
        const field =
          elemType === FLOAT
            ? { floatData: list }
            : elemType === DOUBLE
              ? { doubleData: list }
              : elemType === INT64
                ? { int64Data: list }
                : { int32Data: list };
        expect(readConstant({ ...tensor, rawData: new Uint8Array(), ...field })).toEqual(constant);
      },
    ),
  );
});

test('a -0 that is chosen stays the runtime’s: onnxruntime makes 0 of it', async () => {
  const condition = { shape: [2], elemType: BOOL, data: Uint8Array.of(1, 0) };
  const [zero, minus] = [0, -0].map((value) => ({ shape: [2], elemType: FLOAT, data: Float32Array.of(value, value) }));
  const { folded, run } = await bothWays('Where', [condition, minus!, zero!]);
  expect(folded).toBeUndefined();
  expect(run.data).toEqual(Float32Array.of(0, 0));
  expect((await bothWays('Where', [condition, zero!, zero!])).folded?.data).toEqual(Float32Array.of(0, 0));
});
