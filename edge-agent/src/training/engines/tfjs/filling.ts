import { floatValues, integerValues } from '@commonweight/core';
import { input, outputShape, TYPES, type OperatorTable } from './operator.ts';

const FLOAT = 1;

/** What makes numbers of no others: exporters write them for states that begin at zero, masks and positions. */
export const filling: OperatorTable = {
  ConstantOfShape: (site) => {
    const value = site.node.attribute.find(({ name }) => name === 'value')?.t;
    const [number = 0] =
      value === undefined ? [] : value.dataType === FLOAT ? floatValues(value) : integerValues(value);
    return site.tf.fill(outputShape(site), number, TYPES[value?.dataType ?? FLOAT] ?? 'float32');
  },
  Range: (site) => {
    const { tf } = site;
    const [start, step] = [input(site, 0), input(site, 2)];
    const [length] = outputShape(site) as [number];
    return tf.add(start, tf.mul(step, tf.cast(tf.range(0, length, 1, 'int32'), step.dtype)));
  },
};
