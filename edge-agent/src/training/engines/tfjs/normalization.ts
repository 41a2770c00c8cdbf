import { floatAttribute, intAttribute } from '@commonweight/core';
import { input, wrap, type OperatorSite, type OperatorTable, type Tensor } from './operator.ts';

/** Normalisations, written by what they are made of. */
export const normalization: OperatorTable = {
  LayerNormalization: (site) => {
    const { tf, node, inputs } = site;
    const x = input(site, 0);
    const first = wrap(intAttribute(node, 'axis', -1), x.rank);
    const axes = Array.from({ length: x.rank - first }, (_, index) => first + index);
    const scaled = tf.mul(normalized(site, x, axes), input(site, 1));
    return inputs[2] === undefined ? scaled : tf.add(scaled, inputs[2]);
  },
  InstanceNormalization: (site) => {
    const { tf } = site;
    const x = input(site, 0);
    const axes = Array.from({ length: x.rank - 2 }, (_, index) => index + 2);
    const scaled = tf.mul(normalized(site, x, axes), alongChannels(site, x, input(site, 1)));
    return tf.add(scaled, alongChannels(site, x, input(site, 2)));
  },
  BatchNormalization: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    const [scale, bias, mean, variance] = [1, 2, 3, 4].map((position) => input(site, position)) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const spread = tf.sqrt(tf.add(variance, floatAttribute(node, 'epsilon', 1e-5)));
    const centred = tf.sub(x, alongChannels(site, x, mean));
    return tf.add(tf.mul(centred, alongChannels(site, x, tf.div(scale, spread))), alongChannels(site, x, bias));
  },
};

function normalized({ tf, node }: OperatorSite, x: Tensor, axes: number[]): Tensor {
  const centred = tf.sub(x, tf.mean(x, axes, true));
  const variance = tf.mean(tf.square(centred), axes, true);
  return tf.div(centred, tf.sqrt(tf.add(variance, floatAttribute(node, 'epsilon', 1e-5))));
}

const alongChannels = ({ tf }: OperatorSite, x: Tensor, values: Tensor): Tensor =>
  tf.reshape(values, [values.size, ...Array.from({ length: x.rank - 2 }, () => 1)]);
