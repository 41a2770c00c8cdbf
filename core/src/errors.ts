/** Somebody configured what cannot work. Names the key and the mend. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly key: string | undefined;

  constructor(message: string, key?: string, options?: ErrorOptions) {
    super(message, options);
    this.key = key;
  }
}

/** Bytes of a peer or a file that are not what they claim to be. Trying again does not help. */
export class CodecError extends Error {
  override name = 'CodecError';
}

/** Stops on a bug: the condition holds unless our own code is wrong. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`bug: ${message}`);
}
