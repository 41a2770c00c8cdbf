import type { NodeProto, TensorProto, ValueInfoProto } from './gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { readConstant } from './constants/constant.ts';
import type { Constant } from './constants/constant.ts';
import { foldNode } from './constants/fold-node.ts';
import { makeNode, makeValue } from './nodes.ts';
import type { Attributes } from './nodes.ts';
import { inferTypes } from './shapes.ts';
import type { ShapeSite, ValueType } from './shape-rule.ts';
import { dimsOf, floatTensor, int64Tensor } from './tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

const { BOOL, FLOAT, INT32, INT64 } = TensorProto_DataType;
const integerTypes: readonly number[] = [INT64, INT32];
const countedTypes: readonly number[] = [...integerTypes, BOOL];
const floatTypes: readonly number[] = [FLOAT];

/** Beyond this a list of numbers is data, and no shape, scale or bound. */
const lengthMax = 1024;

/** Writes a graph node by node and knows the shape of every value in it. */
export class GraphBuilder {
  readonly nodes: NodeProto[] = [];
  readonly inputs: ValueInfoProto[] = [];
  readonly initializers: TensorProto[] = [];
  readonly #types: Map<string, ValueType> = new Map();
  readonly #constants: Map<string, Constant> = new Map();
  /** Of constants that were asked for. */
  readonly #numbers: Map<Constant, readonly number[]> = new Map();
  readonly #scalars: Map<number, string> = new Map();
  readonly #names: Set<string> = new Set();
  /** How many nodes read a value, and which makes it as its first output. */
  readonly #readers: Map<string, number> = new Map();
  readonly #makers: Map<string, NodeProto> = new Map();
  readonly #prefix: string;
  #count = 0;

  /** The prefix keeps the names this builder makes up apart from the model's own. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  input(name: string, shape: Shape, elemType: number = FLOAT): string {
    this.inputs.push(makeValue(name, shape, elemType));
    this.#define(name, { shape, elemType });
    return name;
  }

  initializer(tensor: TensorProto): string {
    this.initializers.push(tensor);
    this.#define(tensor.name, { shape: dimsOf(tensor), elemType: tensor.dataType });
    const isList = sizeOf(dimsOf(tensor)) <= lengthMax || integerTypes.includes(tensor.dataType);
    const constant = isList ? readConstant(tensor) : undefined;
    if (constant !== undefined) this.#constants.set(tensor.name, constant);
    return tensor.name;
  }

  scalar(value: number): string {
    const known = this.#scalars.get(value);
    if (known !== undefined) return known;
    const name = this.initializer(floatTensor(this.#fresh('scalar'), [], Float32Array.of(value)));
    this.#scalars.set(value, name);
    return name;
  }

  floats(values: Float32Array, shape: Shape): string {
    return this.initializer(floatTensor(this.#fresh('floats'), shape, values));
  }

  integers(values: readonly number[]): string {
    return this.initializer(int64Tensor(this.#fresh('integers'), values));
  }

  /** Appends a node and answers the name of its first output. */
  emit(opType: string, inputs: readonly string[], attributes: Attributes = {}, output?: string): string {
    const name = output ?? this.#fresh(opType.toLowerCase());
    this.append(makeNode(opType, inputs, [name], attributes));
    return name;
  }

  /** Appends a node that only some runtime knows, and says what it makes: [shape] of floats. */
  emitOf(
    domain: string,
    opType: string,
    inputs: readonly string[],
    shape: Shape,
    attributes: Attributes = {},
    output?: string,
  ): string {
    const name = output ?? this.#fresh(opType.toLowerCase());
    const node = makeNode(opType, inputs, [name], attributes);
    node.domain = domain;
    while (this.#names.has(node.name)) node.name = this.#fresh(opType.toLowerCase());
    this.#names.add(node.name);
    this.#define(name, { shape, elemType: FLOAT });
    this.nodes.push(node);
    return name;
  }

  /** Writes nodes from a place on anew: `write` emits what makes a node's output, under its name, or says that the node stays. */
  rewriteFrom(start: number, write: (node: NodeProto) => boolean): void {
    for (const node of this.nodes.splice(start)) {
      const [output = ''] = node.output;
      const type = this.#types.get(output);
      this.#types.delete(output);
      if (write(node)) continue;
      if (type !== undefined) this.#types.set(output, type);
      this.nodes.push(node);
    }
  }

  /** Appends a node of several outputs and answers their names. */
  emitAll(opType: string, inputs: readonly string[], count: number, attributes: Attributes = {}): string[] {
    const names = Array.from({ length: count }, () => this.#fresh(opType.toLowerCase()));
    this.append(makeNode(opType, inputs, names, attributes));
    return names;
  }

  /** Appends a node of a model under the names it has there. */
  append(node: NodeProto): void {
    // A node that we write is named by its output, which may be another node's name in the model.
    while (node.name !== '' && this.#names.has(node.name)) node.name = this.#fresh(node.opType.toLowerCase());
    this.#names.add(node.name);
    const types = inferTypes(this.site(node));
    node.output.forEach((name, index) => {
      if (name !== '') this.#define(name, types[index] ?? types[0]!);
    });
    const [output = ''] = node.output;
    const constant = (position: number): Constant | undefined => this.#constants.get(node.input[position] ?? '');
    const folded = foldNode({ ...this.site(node), output: types[0]!, constant }, lengthMax);
    if (folded !== undefined) this.#constants.set(output, folded);
    for (const name of node.input) this.#readers.set(name, (this.#readers.get(name) ?? 0) + 1);
    this.#makers.set(output, node);
    this.nodes.push(node);
  }

  /** Asks an already written node for one more output. */
  extraOutput(node: NodeProto, position: number): string {
    const existing = node.output[position];
    if (existing !== undefined && existing !== '') return existing;
    const name = this.#fresh(node.opType.toLowerCase());
    while (node.output.length < position) node.output.push('');
    node.output[position] = name;
    this.#define(name, inferTypes(this.site(node))[position]!);
    return name;
  }

  /** The node that makes a value, if the value has just one reader at most: the one about to be written. */
  soleMaker(value: string): NodeProto | undefined {
    return (this.#readers.get(value) ?? 0) > 0 ? undefined : this.#makers.get(value);
  }

  /** The node that makes a value, if `reader` is the only one that reads it. */
  makerFor(value: string, reader: NodeProto): NodeProto | undefined {
    if (this.nodes.some((node) => node !== reader && node.input.includes(value))) return undefined;
    return this.nodes.find((node) => node.output[0] === value);
  }

  isConstant(name: string): boolean {
    return this.initializers.some((tensor) => tensor.name === name);
  }

  /** Takes back a node whose value nobody reads. */
  remove(node: NodeProto): void {
    this.nodes.splice(this.nodes.indexOf(node), 1);
    for (const name of node.output) this.#types.delete(name);
    for (const name of node.input) this.#readers.set(name, this.#readers.get(name)! - 1);
    this.#makers.delete(node.output[0]!);
  }

  site(node: NodeProto): ShapeSite {
    return {
      node,
      inputs: node.input.map((name) => (name === '' ? { shape: [], elemType: 0 } : this.typeOf(name))),
      integers: (position) => this.constantIntegers(node.input[position] ?? ''),
      floats: (position) => this.constantFloats(node.input[position] ?? ''),
    };
  }

  typeOf(name: string): ValueType {
    const type = this.#types.get(name);
    if (type === undefined)
      throw new OnnxError(`value '${name}' is used before a node makes it; export the model again`);
    return type;
  }

  shapeOf(name: string): Shape {
    return this.typeOf(name).shape;
  }

  isFloat(name: string): boolean {
    return this.#types.get(name)?.elemType === FLOAT;
  }

  has(name: string): boolean {
    return this.#types.has(name);
  }

  /** Numbers of a constant of integers or truths. */
  constantIntegers(name: string): readonly number[] | undefined {
    return this.#numbersOf(name, countedTypes);
  }

  constantFloats(name: string): readonly number[] | undefined {
    return this.#numbersOf(name, floatTypes);
  }

  #numbersOf(name: string, types: readonly number[]): readonly number[] | undefined {
    const constant = this.#constants.get(name);
    if (constant === undefined || !types.includes(constant.elemType)) return undefined;
    const known = this.#numbers.get(constant);
    if (known !== undefined) return known;
    const numbers = Array.from(constant.data, Number);
    this.#numbers.set(constant, numbers);
    return numbers;
  }

  #define(name: string, type: ValueType): void {
    if (this.#types.has(name)) throw new OnnxError(`two values are named '${name}'; rename one of them in the model`);
    this.#types.set(name, type);
  }

  #fresh(hint: string): string {
    this.#count += 1;
    return `${this.#prefix}${hint}_${this.#count}`;
  }
}
