/** Where a command's words go: lines for people, or one JSON object a line for machines. */
export interface Output {
  readonly json: boolean;
  /** Says one thing in the form that was asked for. */
  say(text: string, record: object): void;
}

export function outputTo(write: (text: string) => void, { json = false }: { json?: boolean } = {}): Output {
  return { json, say: (text, record) => write(json ? `${toJson(record)}\n` : `${text}\n`) };
}

export const standardOutput = (options: { json?: boolean }): Output =>
  outputTo((text) => void process.stdout.write(text), options);

/** JSON with 64-bit counts as numbers and bytes as hex. */
export const toJson = (record: object): string => JSON.stringify(record, plain);

function plain(this: unknown, key: string, shown: unknown): unknown {
  // A Buffer would be shown by its own toJSON, so its holder is asked.
  const value = (this as Record<string, unknown>)[key];
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return shown;
}
