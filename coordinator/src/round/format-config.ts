import {
  ConfigError,
  valueEncodings,
  type FormatChoice,
  type UpdateShape,
  type ValueEncodingName,
} from '@commonweight/core';

/** The keys of a task's configuration that say how its updates travel. */
export const FORMAT_KEYS = ['encoding', 'topK', 'rotate', 'compression'] as const;

/** What an update carries, and whose strategy asks for that. */
interface Carried {
  strategy: string;
  shape: UpdateShape;
  /** The strategy's rule sees each update. */
  isRobust: boolean;
  /** Some parameters are 0 in every update. */
  localLayers: boolean;
}

type Given = Readonly<Record<string, unknown>>;

/** How updates travel, from a task's configuration. Throws ConfigError naming the key and the mend. */
export function parseFormat(given: Given, carried: Carried): FormatChoice {
  const { encoding, topK, rotate, compression } = given;
  const { strategy, shape } = carried;
  if (typeof encoding !== 'string' || !Object.hasOwn(valueEncodings, encoding)) {
    throw new ConfigError(`encoding must be one of ${Object.keys(valueEncodings).join(', ')}`, 'encoding');
  }
  if (encoding === 'mxint4' && shape.numbersMax.length > 0) {
    throw new ConfigError(
      `${strategy} adds numbers to updates, and mxint4 is too coarse for them: choose mxint8`,
      'encoding',
    );
  }
  if (compression !== 'zstd' && compression !== 'none') {
    throw new ConfigError('compression must be zstd or none', 'compression');
  }
  const choice = { encoding: encoding as ValueEncodingName, compression } as const;
  if (rotate === true) {
    requireTurning(given, carried);
    return { ...choice, rotate };
  }
  if (rotate !== undefined && rotate !== false) throw new ConfigError('rotate is true or false', 'rotate');
  if (topK === undefined) return choice;
  if (typeof topK !== 'number' || !(topK > 0 && topK < 1)) {
    throw new ConfigError('topK is the share of the values that is sent: give a number above 0 and below 1', 'topK');
  }
  if (!isDeltaAlone(shape)) {
    throw new ConfigError(
      `${strategy} adds ${addedBy(shape)} to updates, and topK may leave out any part of them: leave topK out`,
      'topK',
    );
  }
  return { ...choice, topK };
}

/** Turned values say nothing of single parameters: what needs these is refused. Throws ConfigError. */
function requireTurning({ encoding, topK }: Given, { strategy, shape, isRobust, localLayers }: Carried): void {
  const refused = (why: string): ConfigError => new ConfigError(`rotate ${why}`, 'rotate');
  if (encoding === 'float32') {
    throw refused('helps encodings of few bits, and float32 has all of them: leave rotate out, or choose mxint4');
  }
  if (topK !== undefined) {
    throw refused('spreads every value over its block, so that none is large: leave out rotate or topK');
  }
  if (!isDeltaAlone(shape)) {
    throw refused(
      `would mix the ${addedBy(shape)} that ${strategy} adds to updates with their deltas: leave rotate out`,
    );
  }
  if (isRobust) {
    throw refused(`hides single parameters, and the rule of ${strategy} looks at updates one by one: leave rotate out`);
  }
  if (localLayers) {
    throw refused(
      'would spread rounding over the layers that agents keep to themselves: leave out rotate or localLayers',
    );
  }
}

const isDeltaAlone = ({ vectors, numbersMax }: UpdateShape): boolean => vectors === 1 && numbersMax.length === 0;

const addedBy = ({ vectors }: UpdateShape): string => (vectors > 1 ? 'vectors' : 'numbers');
