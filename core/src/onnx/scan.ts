import { OnnxError } from './errors.ts';

/** Nodes of a model, those of graphs inside of nodes too. The largest models that people export have tens of thousands. */
export const NODES_MAX = 100_000;
/** Graphs within one another: a branch of a branch is two. */
export const GRAPH_DEPTH_MAX = 16;
/** Fields of all messages: a reader makes objects of them. */
const FIELDS_MAX = 5_000_000;
/** Bytes of numbers that are written one by one, which a reader makes JavaScript numbers of; raw data has no such bound. */
const LISTED_BYTES_MAX: Readonly<Record<'floats' | 'integers', number>> = {
  floats: 256 * 1024 * 1024,
  integers: 16 * 1024 * 1024,
};

type Kind = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'function' | 'sparse';

/** Messages that have graphs, nodes or tensors in them, by field. Source: onnx.proto3 of ONNX 1.19. */
const children: Readonly<Record<Kind, Readonly<Record<number, Kind>>>> = {
  model: { 7: 'graph', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  function: { 7: 'node', 11: 'attribute' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: {},
};

/** Fields of a tensor that list numbers. */
const lists: Readonly<Record<number, 'floats' | 'integers'>> = {
  4: 'floats',
  5: 'integers',
  7: 'integers',
  10: 'floats',
  11: 'integers',
};
const [TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION, EXTERNAL] = [8, 13, 14, 1];

/** A message that is being read, up to its end. */
interface Open {
  kind: Kind;
  end: number;
  /** Graphs around it, itself included. */
  depth: number;
  /** Of a tensor: its name's place, and whether its data are elsewhere. */
  name?: [from: number, to: number];
  isExternal?: boolean;
}

/**
 * Goes over the bytes of an ONNX file without making anything of them, and throws OnnxError where they are none, or where reading them
 * would take more memory than a file of any use needs.
 */
export function scanModel(bytes: Uint8Array): void {
  const reader = new WireReader(bytes);
  const open: Open[] = [{ kind: 'model', end: bytes.length, depth: 0 }];
  const counts = { nodes: 0, fields: 0, floats: 0, integers: 0 };
  while (open.length > 0) {
    const message = open.at(-1)!;
    if (reader.at >= message.end) {
      if (reader.at > message.end) throw notOnnx();
      close(bytes, message);
      open.pop();
      continue;
    }
    counts.fields += 1;
    if (counts.fields > FIELDS_MAX) throw tooMuch(`over ${FIELDS_MAX} fields`);
    const { field, type } = reader.tag();
    if (type !== LENGTH) {
      const value = reader.skip(type);
      if (message.kind === 'tensor' && field === DATA_LOCATION && value === EXTERNAL) message.isExternal = true;
      if (message.kind === 'tensor' && lists[field] !== undefined) list(counts, lists[field], 1);
      continue;
    }
    const length = reader.length(message.end);
    const kind = children[message.kind][field];
    if (kind === undefined) {
      if (message.kind === 'tensor') noteTensor(message, counts, field, reader.at, length);
      reader.at += length;
      continue;
    }
    const depth = message.depth + (kind === 'graph' ? 1 : 0);
    if (depth > GRAPH_DEPTH_MAX) throw tooMuch(`graphs over ${GRAPH_DEPTH_MAX} deep within one another`);
    if (kind === 'node') counts.nodes += 1;
    if (counts.nodes > NODES_MAX) throw tooMuch(`over ${NODES_MAX} nodes`);
    if (kind === 'sparse')
      throw new OnnxError('a tensor is kept as a sparse one; save the model again with dense tensors');
    open.push({ kind, end: reader.at + length, depth });
  }
}

function noteTensor(
  message: Open,
  counts: Record<'floats' | 'integers', number>,
  field: number,
  at: number,
  length: number,
): void {
  if (field === TENSOR_NAME) message.name = [at, at + length];
  if (field === EXTERNAL_DATA) message.isExternal = true;
  if (lists[field] !== undefined) list(counts, lists[field], length);
}

function list(counts: Record<'floats' | 'integers', number>, kind: 'floats' | 'integers', bytes: number): void {
  counts[kind] += bytes;
  if (counts[kind] <= LISTED_BYTES_MAX[kind]) return;
  throw new OnnxError(
    `over ${LISTED_BYTES_MAX[kind]} bytes of ${kind} are listed one by one; save the model again with raw data (onnx.numpy_helper writes it so)`,
  );
}

/** Data in another file are refused wherever the tensor is: a graph of a branch, a constant, a function. */
function close(bytes: Uint8Array, { name: [from, to] = [0, 0], isExternal }: Open): void {
  if (isExternal !== true) return;
  const name = String.fromCharCode(...bytes.subarray(from, Math.min(to, from + NAME_SHOWN)));
  throw new OnnxError(
    `tensor '${name}' keeps its data in another file; save the model again with all data in one file (PyTorch: external_data=False)`,
  );
}

const NAME_SHOWN = 120;

const tooMuch = (what: string): OnnxError => new OnnxError(`the model has ${what}; export a smaller one`);

const notOnnx = (): OnnxError => new OnnxError('the bytes are not ONNX, or were cut short; give a whole .onnx file');

const [VARINT, DOUBLE_WORD, LENGTH, WORD] = [0, 1, 2, 5];

/** Reads the wire format of protocol buffers. */
class WireReader {
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  tag(): { field: number; type: number } {
    const tag = this.#varint();
    const field = Math.floor(tag / 8);
    if (field === 0) throw notOnnx();
    return { field, type: tag % 8 };
  }

  /** Passes over a number, and gives it where it is written as a varint. */
  skip(type: number): number {
    if (type === VARINT) return this.#varint();
    if (type !== DOUBLE_WORD && type !== WORD) throw notOnnx();
    this.at += type === WORD ? 4 : 8;
    return 0;
  }

  /** How long what follows is; it ends within its message. */
  length(end: number): number {
    const length = this.#varint();
    if (this.at + length > end) throw notOnnx();
    return length;
  }

  #varint(): number {
    let [value, factor] = [0, 1];
    for (let count = 0; count < 10; count++) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined) throw notOnnx();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    throw notOnnx();
  }
}
