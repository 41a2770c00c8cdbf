import { floatAttribute, intAttribute } from '@commonweight/core';
import {
  alongLast,
  input,
  wrap,
  type Operator,
  type OperatorSite,
  type OperatorTable,
  type Tensor,
} from './operator.ts';

/** α·(eˣ − 1) below zero, without what the exponential would be above. */
const belowZero = ({ tf }: OperatorSite, x: Tensor, alpha: number): Tensor =>
  tf.mul(tf.sub(tf.exp(tf.neg(tf.relu(tf.neg(x)))), 1), alpha);

const alongAxis =
  (compute: (site: OperatorSite, x: Tensor) => Tensor): Operator =>
  (site) => {
    const x = input(site, 0);
    return alongLast(site, x, wrap(intAttribute(site.node, 'axis', -1), x.rank), (turned) => compute(site, turned));
  };

/** Activation functions. */
export const activation: OperatorTable = {
  Relu: (site) => site.tf.relu(input(site, 0)),
  Sigmoid: (site) => site.tf.sigmoid(input(site, 0)),
  Tanh: (site) => site.tf.tanh(input(site, 0)),
  Softplus: (site) => site.tf.softplus(input(site, 0)),
  Softsign: (site) => site.tf.div(input(site, 0), site.tf.add(site.tf.abs(input(site, 0)), 1)),
  Elu: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    return tf.add(tf.relu(x), belowZero(site, x, floatAttribute(node, 'alpha', 1)));
  },
  Selu: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    const sum = tf.add(tf.relu(x), belowZero(site, x, floatAttribute(node, 'alpha', 1.6732632423543772)));
    return tf.mul(sum, floatAttribute(node, 'gamma', 1.0507009873554805));
  },
  HardSigmoid: ({ tf, node, inputs }) => {
    const line = tf.add(tf.mul(inputs[0]!, floatAttribute(node, 'alpha', 0.2)), floatAttribute(node, 'beta', 0.5));
    return tf.clipByValue(line, 0, 1);
  },
  HardSwish: (site) => {
    const { tf } = site;
    const x = input(site, 0);
    return tf.mul(x, tf.clipByValue(tf.add(tf.div(x, 6), 0.5), 0, 1));
  },
  PRelu: (site) => {
    const { tf } = site;
    const [x, slope] = [input(site, 0), input(site, 1)];
    return tf.sub(tf.relu(x), tf.mul(slope, tf.relu(tf.neg(x))));
  },
  Softmax: alongAxis(({ tf }, x) => tf.softmax(x)),
  LogSoftmax: alongAxis(({ tf }, x) => tf.logSoftmax(x)),
};
