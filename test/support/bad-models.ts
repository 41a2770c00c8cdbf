/** Files that are no models, or mean ones. */
import { mlp, quantizeModel, readModel, writeModel, type ModelProto } from '@commonweight/core';
import { makeNode } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';

export interface BadModel {
  bytes: Uint8Array;
  /** What is said of it. */
  words: RegExp;
  /** It is a model that a runtime may run: only training it is refused. */
  isServed?: true;
}

const small = (): ModelProto => mlp({ inputs: 4, hidden: [8], outputs: 3, seed: 1 });
const changed = (change: (graph: NonNullable<ModelProto['graph']>, model: ModelProto) => void): Uint8Array => {
  const model = readModel(writeModel(small()));
  change(model.graph!, model);
  return writeModel(model);
};

const external = (location: string): Uint8Array =>
  changed(({ initializer }) => {
    initializer[0]!.externalData.push({ $typeName: 'onnx.StringStringEntryProto', key: 'location', value: location });
    initializer[0]!.dataLocation = 1;
  });

/** A field of bytes in the wire format. */
function field(number: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([varint(number * 8 + 2), varint(length), ...parts]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

const text = (number: number, value: string): Buffer => field(number, Buffer.from(value));
/** A model of this graph: operator set 17, format 8. */
const modelOf = (...graph: readonly Uint8Array[]): Uint8Array =>
  Buffer.concat([Buffer.from([8, 8]), field(7, ...graph), field(8, Buffer.from([0x10, 17]))]);
const value = (number: number, name: string): Buffer => field(number, text(1, name));
const relu = (input: string, output: string): Buffer => field(1, text(1, input), text(2, output), text(4, 'Relu'));

function nested(depth: number): Uint8Array {
  let graph: Uint8Array = relu('x', 'inner');
  for (let level = 0; level < depth; level++) {
    graph = field(
      1,
      text(1, 'x'),
      text(2, `y${level}`),
      text(4, 'If'),
      field(5, text(1, 'then_branch'), field(6, graph)),
    );
  }
  return modelOf(graph, value(11, 'x'), value(12, `y${depth - 1}`));
}

function manyNodes(count: number): Uint8Array {
  const one = relu('x', 'x');
  return modelOf(Buffer.alloc(one.length * count, one), value(11, 'x'), value(12, 'x'));
}

export const badModels = (): Record<string, BadModel> => ({
  'a page of HTML': { bytes: new TextEncoder().encode('<html>not here</html>'), words: /are not ONNX/ },
  'a picture': { bytes: Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13), words: /not ONNX/ },
  'a file that was cut short': { bytes: writeModel(small()).slice(0, -40), words: /cut short/ },
  'weights in a file beside it': {
    bytes: external('weights.bin'),
    words: /'hidden1.weight' keeps its data in another file/,
  },
  'weights at an absolute path': { bytes: external('/etc/passwd'), words: /keeps its data in another file/ },
  'weights in a folder above': { bytes: external('../../secret'), words: /keeps its data in another file/ },
  'a constant in another file': {
    bytes: changed(({ node, initializer }) => {
      const constant = makeNode('Constant', [], ['c'], { value: 1 });
      const t = { ...initializer[0]!, name: 'hidden', rawData: new Uint8Array(), dataLocation: 1 as const };
      node.unshift({ ...constant, attribute: [{ ...constant.attribute[0]!, type: 4, t }] });
    }),
    words: /'hidden' keeps its data in another file/,
  },
  '2 GB of weights declared in 1 kB': {
    bytes: changed(({ initializer: [first] }) => {
      first!.dims = [512n, 1024n, 1024n];
      first!.rawData = first!.rawData.slice(0, 8);
    }),
    words: /has 2 values where its shape \[512,1024,1024\] needs 536870912/,
  },
  '2 GB of weights declared in nothing': {
    bytes: changed(({ initializer: [first] }) => {
      first!.dims = [512n, 1024n, 1024n];
      first!.rawData = new Uint8Array();
    }),
    words: /has no values/,
  },
  'a shape that no memory holds': {
    bytes: changed(({ initializer: [first] }) => {
      first!.dims = [2n ** 40n, 2n ** 40n];
      first!.rawData = new Uint8Array();
    }),
    words: /which no memory holds/,
  },
  'a negative size': {
    bytes: changed(({ initializer: [first] }) => void (first!.dims = [-4n, -8n])),
    words: /negative dimension/,
  },
  'more axes than a tensor has': {
    bytes: changed(({ initializer: [first] }) => void (first!.dims = Array.from({ length: 100_000 }, () => 1n))),
    words: /has 100000 dimensions, up to 32 are read/,
  },
  'an operator set of the future': {
    bytes: changed((_, { opsetImport }) => void (opsetImport[0]!.version = 99n)),
    words: /operator set 99, and the runtime takes 7 to 26/,
  },
  'a format of the future': { bytes: changed((_, model) => void (model.irVersion = 99n)), words: /ONNX format 99/ },
  'an operator of nobody': {
    bytes: changed(({ node }) => void (node[1]!.domain = 'com.example')),
    words: /is of com\.example, which the runtime does not have/,
  },
  'nodes that go in a circle': {
    bytes: changed(({ node }) => void (node[0]!.input[0] = 'logits')),
    words: /reads 'logits' before a node makes it: the nodes go in a circle/,
  },
  'a node that reads itself': {
    bytes: changed(({ node }) => void (node[1]!.input[0] = node[1]!.output[0]!)),
    words: /before a node makes it: the nodes go in a circle/,
  },
  'a value that nothing makes': {
    bytes: changed(({ node }) => void (node[1]!.input[0] = 'nowhere')),
    words: /reads 'nowhere', which nothing makes/,
  },
  'an output that nothing makes': {
    bytes: changed(({ output }) => void (output[0]!.name = 'nowhere')),
    words: /has the output 'nowhere', which no node makes/,
  },
  'two values of one name': {
    bytes: changed(({ node }) => void node.push({ ...node[2]!, name: 'again' })),
    words: /two values are named 'logits'/,
  },
  'two tensors of one name': {
    bytes: changed(({ initializer }) => void initializer.push(floatTensor('hidden1.bias', [1], Float32Array.of(1)))),
    words: /two values are named 'hidden1.bias'/,
  },
  'branches 20 deep': { bytes: nested(20), words: /graphs over 16 deep within one another/ },
  'branches 5,000 deep': { bytes: nested(5000), words: /graphs over 16 deep within one another/ },
  'a million nodes': { bytes: manyNodes(1_000_000), words: /over 100000 nodes/ },
  'ten million empty names': {
    bytes: modelOf(field(1, Buffer.alloc(20_000_000, Buffer.from([0x0a, 0]))), value(12, 'y')),
    words: /over 5000000 fields/,
  },
  'a hundred million numbers one by one': {
    bytes: modelOf(
      field(5, text(8, 'w'), Buffer.from([0x10, 7]), field(7, Buffer.alloc(100_000_000))),
      relu('w', 'y'),
      value(12, 'y'),
    ),
    words: /bytes of integers are listed one by one; save the model again with raw data/,
  },
  'a Loop': {
    bytes: changed(({ node }) => void (node[1]!.opType = 'Loop')),
    words: /operator Loop of node '.*' branches at run time; export the model traced/,
    isServed: true,
  },
  'an int8 form': {
    bytes: writeModel(quantizeModel(small(), 'dynamic-int8').model),
    words: /is of a quantized form; train the float32 model/,
    isServed: true,
  },
  'a node without a gradient': {
    bytes: changed(({ node }) => void Object.assign(node[1]!, { opType: 'Round', name: 'rounding' })),
    words: /Round of node 'rounding' has no gradient/,
    isServed: true,
  },
});
