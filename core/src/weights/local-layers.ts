import { ConfigError } from '../errors.ts';
import type { WeightLayout } from '../onnx/parameters.ts';

/** The part of a model that an agent keeps for itself. */
export interface LocalLayers {
  /** Parameters in it, one after the other. */
  length: number;
  /** Their values out of a whole vector. */
  take(whole: Float32Array): Float32Array;
  /** A whole vector with these values in their places. */
  put(whole: Float32Array, own: Float32Array): Float32Array;
  /** A whole vector with zeros in their places. */
  without(whole: Float32Array): Float32Array;
}

/** The parameters whose names match one of the patterns. Throws ConfigError where a pattern matches none, or nothing is left to share. */
export function localLayers({ parameters }: WeightLayout, patterns: readonly string[] = []): LocalLayers {
  for (const pattern of patterns) {
    if (parameters.some(({ name }) => matches(name, pattern))) continue;
    const names = parameters.map(({ name }) => name).join(', ');
    throw new ConfigError(
      `localLayers: no parameter is named "${pattern}": there are ${names.slice(0, 400)}`,
      'localLayers',
    );
  }
  const own = parameters.filter(({ name }) => patterns.some((pattern) => matches(name, pattern)));
  if (own.length > 0 && own.length === parameters.length) {
    throw new ConfigError('localLayers match every parameter, and nothing is left to learn together', 'localLayers');
  }
  const length = own.reduce((sum, parameter) => sum + parameter.length, 0);
  return {
    length,
    take: (whole) => {
      const taken = new Float32Array(length);
      let at = 0;
      for (const parameter of own) {
        taken.set(whole.subarray(parameter.offset, parameter.offset + parameter.length), at);
        at += parameter.length;
      }
      return taken;
    },
    put: (whole, values) => {
      if (length === 0) return whole;
      const filled = whole.slice();
      let at = 0;
      for (const parameter of own) {
        filled.set(values.subarray(at, at + parameter.length), parameter.offset);
        at += parameter.length;
      }
      return filled;
    },
    without: (whole) => {
      if (length === 0) return whole;
      const emptied = whole.slice();
      for (const parameter of own) emptied.fill(0, parameter.offset, parameter.offset + parameter.length);
      return emptied;
    },
  };
}

/** `*` stands for any characters. */
function matches(name: string, pattern: string): boolean {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}
