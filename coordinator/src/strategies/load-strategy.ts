import { createHash } from 'node:crypto';
import { readFile, realpath } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { addStrategy, ConfigError } from '@commonweight/core';

/** A strategy of a user's own. */
export interface LoadedStrategy {
  /** What tasks call it. */
  name: string;
  /** What manifests call it: NAME@DIGEST, with the digest of the file. */
  label: string;
  /** Where it was read from. */
  file: string;
}

const DIGEST_CHARACTERS = 12;

/** Files that were loaded, by the names of their strategies. */
const loaded = new Map<string, LoadedStrategy>();

/**
 * Loads a file whose default export is a StrategyModule, and makes it known by its name. The file is code that runs as this process does:
 * it is named by who starts the process, never by who talks to it. Its digest is that of the file alone, not of what it imports.
 * Throws ConfigError naming the file and what is wrong with it.
 */
export async function loadStrategy(path: string): Promise<LoadedStrategy> {
  let file: string;
  let text: Uint8Array;
  try {
    file = await realpath(path);
    text = await readFile(file);
  } catch (cause) {
    throw new ConfigError(`${path}: no strategy can be read there: ${(cause as Error).message}`, 'strategy', { cause });
  }
  const digest = createHash('sha256').update(text).digest('hex').slice(0, DIGEST_CHARACTERS);
  const exported = await import(`${pathToFileURL(file).href}?${digest}`).catch((cause: unknown) => {
    throw new ConfigError(`${path}: ${(cause as Error).message}`, 'strategy', { cause });
  });
  const label = addStrategy((exported as { default?: unknown }).default, path, digest);
  const strategy = { name: label.slice(0, label.lastIndexOf('@')), label, file };
  loaded.set(strategy.name, strategy);
  return strategy;
}

/** The file that a strategy was loaded from, for another thread; undefined for one that comes along. */
export const loadedStrategy = (name: string): LoadedStrategy | undefined => loaded.get(name);
