import { TransportError } from '@commonweight/client-sdk';
import { ConfigError } from '@commonweight/core';

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** The command could not do its work: exit code 1. The message names the cause and the mend. */
export class CommandError extends Error {
  override name = 'CommandError';
}

/** Work that a coordinator may refuse for what it was given, which is the user's to mend: exit code 2. */
export async function refusedIsUsage<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof TransportError && cause.code === 'invalid') throw new UsageError(cause.message, { cause });
    throw cause;
  }
}

/** A question that cannot be answered from what is there: exit code 2, so that a script can tell it from a no. */
export class UnansweredError extends Error {
  override name = 'UnansweredError';
}

export const exitCodeOf = (error: unknown): 1 | 2 =>
  [UsageError, UnansweredError, ConfigError].some((kind) => error instanceof kind) ? 2 : 1;

const mends: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is taken: end what uses it or give another one',
  EACCES: 'permission is missing: give a folder or a port that this user may use',
  EROFS: 'the file system is read-only: give another folder',
  ENOSPC: 'the disk is full',
  ENOENT: 'there is no such file or folder',
  EISDIR: 'that is a folder; a file is wanted',
  ENOTDIR: 'a part of that path is not a folder',
};

/** Cause and mend in one line. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const mend = mends[(error as NodeJS.ErrnoException).code ?? ''];
  const first = error.message.split('\n')[0] ?? '';
  const away = /^cannot reach (\S+): /.exec(first);
  if (away !== null) {
    return `no coordinator answers at ${away[1]}: start one with \`commonweight coordinator\`, or say where it is with --coordinator`;
  }
  if (mend === undefined) return first;
  const { path } = error as NodeJS.ErrnoException;
  return `${path ?? first}: ${mend}`;
}
