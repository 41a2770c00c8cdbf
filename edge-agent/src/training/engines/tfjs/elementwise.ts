import { floatAttribute, intAttribute } from '@commonweight/core';
import {
  flat,
  floats,
  input,
  lacks,
  stretched,
  TYPES,
  type Operator,
  type OperatorTable,
  type Tensor,
  type TfLibrary,
} from './operator.ts';

const unary =
  (of: (tf: TfLibrary, x: Tensor) => Tensor): Operator =>
  (site) =>
    of(site.tf, input(site, 0));

const binary =
  (of: (tf: TfLibrary, a: Tensor, b: Tensor) => Tensor): Operator =>
  (site) =>
    of(site.tf, input(site, 0), input(site, 1));

const compared =
  (of: (tf: TfLibrary, a: Tensor, b: Tensor) => Tensor): Operator =>
  (site) =>
    flat(site, (a, b) => of(site.tf, a!, b!), input(site, 0), input(site, 1));

/** Of operators whose gradients do not sum over what broadcasting stretched. */
const alike =
  (of: (tf: TfLibrary, a: Tensor, b: Tensor) => Tensor): Operator =>
  (site) => {
    const [first, ...others] = site.node.input.map((_, position) => input(site, position));
    return others.reduce((sofar, next) => {
      const shape = site.tf.broadcast_util.assertAndGetBroadcastShape(sofar.shape, next.shape);
      return of(site.tf, stretched(site, sofar, shape), stretched(site, next, shape));
    }, first!);
  };

/** A quotient of whole numbers as ONNX has it; the library rounds it down. */
function towardsZero(tf: TfLibrary, a: Tensor, b: Tensor): Tensor {
  const down = tf.div(a, b);
  const isLeft = tf.notEqual(tf.mul(down, b), a);
  const isBelow = tf.logicalXor(tf.less(a, 0), tf.less(b, 0));
  return tf.add(down, tf.cast(tf.logicalAnd(isLeft, isBelow), 'int32'));
}

/** Number by number, with numpy's broadcasting. */
export const elementwise: OperatorTable = {
  Identity: unary((tf, x) => tf.clone(x)),
  Dropout: unary((tf, x) => tf.clone(x)),
  Neg: unary((tf, x) => tf.neg(x)),
  Exp: unary((tf, x) => tf.exp(x)),
  Log: unary((tf, x) => tf.log(x)),
  Sqrt: unary((tf, x) => tf.sqrt(x)),
  Abs: unary((tf, x) => tf.abs(x)),
  Sign: unary((tf, x) => tf.sign(x)),
  Reciprocal: unary((tf, x) => tf.reciprocal(x)),
  Sin: unary((tf, x) => tf.sin(x)),
  Cos: unary((tf, x) => tf.cos(x)),
  Erf: unary((tf, x) => tf.erf(x)),
  Floor: unary((tf, x) => tf.floor(x)),
  Ceil: unary((tf, x) => tf.ceil(x)),
  Round: unary((tf, x) => tf.round(x)),
  Not: (site) => flat(site, (x) => site.tf.logicalNot(x!), input(site, 0)),
  Add: binary((tf, a, b) => tf.add(a, b)),
  Sub: binary((tf, a, b) => tf.sub(a, b)),
  Mul: binary((tf, a, b) => tf.mul(a, b)),
  Div: binary((tf, a, b) => (a.dtype === 'int32' ? towardsZero(tf, a, b) : tf.div(a, b))),
  Mod: (site) => {
    const { tf, node } = site;
    const [a, b] = [input(site, 0), input(site, 1)];
    if (intAttribute(node, 'fmod', 0) === 0) return tf.mod(a, b);
    // With the sign of what is divided, where the library has that of the divisor.
    if (a.dtype === 'int32') return tf.sub(a, tf.mul(towardsZero(tf, a, b), b));
    return tf.mul(tf.sign(a), tf.mod(tf.abs(a), tf.abs(b)));
  },
  Pow: binary((tf, a, b) => tf.pow(a, b)),
  Equal: compared((tf, a, b) => tf.equal(a, b)),
  Greater: compared((tf, a, b) => tf.greater(a, b)),
  GreaterOrEqual: compared((tf, a, b) => tf.greaterEqual(a, b)),
  Less: compared((tf, a, b) => tf.less(a, b)),
  LessOrEqual: compared((tf, a, b) => tf.lessEqual(a, b)),
  And: compared((tf, a, b) => tf.logicalAnd(a, b)),
  Or: compared((tf, a, b) => tf.logicalOr(a, b)),
  Max: alike((tf, a, b) => tf.maximum(a, b)),
  Min: alike((tf, a, b) => tf.minimum(a, b)),
  Cast: (site) => {
    const to = intAttribute(site.node, 'to', 1);
    const type = TYPES[to];
    if (type === undefined) return lacks(site, `to the element type ${to}`);
    return site.tf.cast(input(site, 0), type);
  },
  Clip: (site) => {
    const { tf, inputs } = site;
    const [least, most] = [inputs[1], inputs[2]];
    const [low, high] = [floats(site, 1)?.[0], floats(site, 2)?.[0]];
    const x = input(site, 0);
    const isConstant = (least === undefined || low !== undefined) && (most === undefined || high !== undefined);
    if (!isConstant) return lacks(site, 'with bounds that are computed');
    return tf.clipByValue(x, low ?? -3.4e38, high ?? 3.4e38);
  },
  Where: (site) => {
    const { tf } = site;
    const [condition, a, b] = [input(site, 0), input(site, 1), input(site, 2)];
    const { assertAndGetBroadcastShape: together } = tf.broadcast_util;
    const shape = together(together(condition.shape, a.shape), b.shape);
    return tf.where(stretched(site, condition, shape), stretched(site, a, shape), stretched(site, b, shape));
  },
  LeakyRelu: (site) => site.tf.leakyRelu(input(site, 0), floatAttribute(site.node, 'alpha', 0.01)),
};
