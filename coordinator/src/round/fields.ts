import { ConfigError } from '@commonweight/core';

/** The value of a JSON text. Throws ConfigError. */
export function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new ConfigError(`the configuration is not JSON: ${(cause as Error).message}`, undefined, { cause });
  }
}

/** An object with any keys. Throws ConfigError naming `key`. */
export function record(value: unknown, key: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new ConfigError(`${key} must be an object`, key);
}

/** A whole number under a key. Throws ConfigError naming `path`. */
export function whole(from: object, key: string, path: string, min: number, max: number): number {
  const value = (from as Record<string, unknown>)[key];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new ConfigError(`${path} must be a whole number from ${min} to ${max}`, path);
}

/** Throws ConfigError where an object has another key than these. */
export function requireKeys(from: object, keys: readonly string[], path: string): void {
  const unknown = Object.keys(from).find((key) => !keys.includes(key));
  if (unknown === undefined) return;
  const key = path === '' ? unknown : `${path}.${unknown}`;
  const what = path === '' ? `key "${unknown}"` : key;
  throw new ConfigError(`${what} is not known: the keys are ${keys.join(', ')}`, key);
}
