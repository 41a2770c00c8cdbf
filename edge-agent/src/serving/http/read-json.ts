import { ServingError } from '../errors.ts';
import { JSON_BYTES_MAX, JSON_DEPTH_MAX } from '../limits.ts';

/** One for all: to make one costs more than what it reads of a usual request. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

const [QUOTE, BACKSLASH, OPEN_BRACKET, OPEN_BRACE, CLOSE_BRACKET, CLOSE_BRACE] = [0x22, 0x5c, 0x5b, 0x7b, 0x5d, 0x7d];

/** What to do about JSON that is too large. */
export const smallerJson = (takesBinary: boolean): string =>
  takesBinary ? 'send large tensors as binary data' : 'send fewer rows at a time';

/** An object in JSON. What is too large or too deep is refused before it is parsed. `takesBinary`: whether tensors may come behind it. */
export function readJsonObject(bytes: Uint8Array, { takesBinary }: { takesBinary: boolean }): Record<string, unknown> {
  if (bytes.length > JSON_BYTES_MAX) {
    throw new ServingError(
      'too-large',
      `the JSON is ${bytes.length} bytes, at most ${JSON_BYTES_MAX} are taken: ${smallerJson(takesBinary)}`,
    );
  }
  if (depthOf(bytes) > JSON_DEPTH_MAX) {
    throw new ServingError('bad-json', `the JSON is nested deeper than ${JSON_DEPTH_MAX}: no tensor has so many axes`);
  }
  let json: unknown;
  try {
    json = JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    const text = Buffer.from(bytes.subarray(0, JSON_BYTES_MAX)).toString('latin1');
    const mend = /[[,:]\s*-?(?:NaN|Infinity)\b/.test(text)
      ? `JSON has no NaN and no Infinity: leave them out${takesBinary ? ', or send the tensor as binary data' : ''}`
      : 'send an object with "inputs"';
    throw new ServingError('bad-json', `the body is not JSON (${(cause as Error).message}): ${mend}`, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ServingError('bad-json', 'the JSON is no object: send an object with "inputs"');
  }
  return json as Record<string, unknown>;
}

/** How deep arrays and objects nest, without parsing; brackets in strings do not count. */
function depthOf(bytes: Uint8Array): number {
  let [depth, deepest, inString] = [0, 0, false];
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index];
    if (inString) {
      if (byte === BACKSLASH) index += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) deepest = Math.max(deepest, (depth += 1));
    else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth -= 1;
  }
  return deepest;
}

/** Throws ServingError where there are other keys. `of` names the object. */
export function requireKeys(json: Record<string, unknown>, keys: readonly string[], of: string): void {
  const unknown = Object.keys(json).find((key) => !keys.includes(key));
  if (unknown === undefined) return;
  throw new ServingError('bad-request', `${of} has no "${unknown.slice(0, 64)}": there are ${keys.join(', ')}`);
}

export function wholeNumber(value: unknown, key: string, min: number, max: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw new ServingError(
    'bad-request',
    `"${key}" must be a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? ' on' : ` to ${max}`}`,
  );
}
