import {
  ConfigError,
  valueEncodings,
  type FormatChoice,
  type UpdateShape,
  type ValueEncodingName,
} from '@commonweight/core';

/** The keys of a task's configuration that say how its updates travel. */
export const FORMAT_KEYS = ['encoding', 'topK'] as const;

/** What an update carries, and whose strategy asks for that. */
interface Carried {
  strategy: string;
  shape: UpdateShape;
}

/** How updates travel, from a task's configuration. Throws ConfigError naming the key and the mend. */
export function parseFormat(given: Readonly<Record<string, unknown>>, { strategy, shape }: Carried): FormatChoice {
  const { encoding, topK } = given;
  if (typeof encoding !== 'string' || !Object.hasOwn(valueEncodings, encoding)) {
    throw new ConfigError(`encoding must be one of ${Object.keys(valueEncodings).join(', ')}`, 'encoding');
  }
  if (encoding === 'mxint4' && shape.numbersMax.length > 0) {
    throw new ConfigError(
      `${strategy} adds numbers to updates, and mxint4 is too coarse for them: choose mxint8`,
      'encoding',
    );
  }
  if (topK === undefined) return { encoding: encoding as ValueEncodingName };
  if (typeof topK !== 'number' || !(topK > 0 && topK < 1)) {
    throw new ConfigError('topK is the share of the values that is sent: give a number above 0 and below 1', 'topK');
  }
  if (shape.vectors > 1 || shape.numbersMax.length > 0) {
    const more = shape.vectors > 1 ? 'vectors' : 'numbers';
    throw new ConfigError(
      `${strategy} adds ${more} to updates, and topK may leave out any part of them: leave topK out`,
      'topK',
    );
  }
  return { encoding: encoding as ValueEncodingName, topK };
}
