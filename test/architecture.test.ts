import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');

/** Who may import whom. A package that is not listed may not be imported at all. */
const allowed: Record<string, readonly string[]> = {
  core: [],
  proto: ['core'],
  'client-sdk': ['core', 'proto'],
  coordinator: ['core', 'proto'],
  'edge-agent': ['client-sdk', 'core', 'proto'],
  cli: ['client-sdk', 'coordinator', 'core', 'edge-agent', 'proto'],
};

interface Source {
  path: string;
  text: string;
  imports: string[];
}

function sourcesOf(folder: string): Source[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === 'gen' || entry.name === 'assembly' ? [] : sourcesOf(path);
    if (!/\.ts$/.test(entry.name)) return [];
    const text = readFileSync(join(root, path), 'utf8');
    const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] ?? '');
    return [{ path, text, imports }];
  });
}

const isTest = (source: Source): boolean => source.path.endsWith('.test.ts');

describe.each(Object.keys(allowed))('%s', (name) => {
  const sources = sourcesOf(join(name, 'src'));

  test('has sources', () => expect(sources.length).toBeGreaterThan(0));

  test('imports only the packages that it may', () => {
    const wrong = sources
      .filter((source) => !isTest(source))
      .flatMap((source) =>
        source.imports
          .filter((specifier) => specifier.startsWith('@commonweight/'))
          .filter((specifier) => !allowed[name]?.includes(specifier.slice('@commonweight/'.length)))
          .map((specifier) => `${source.path} imports ${specifier}`),
      );
    expect(wrong).toEqual([]);
  });

  test('reaches other packages by their name, never by a path', () => {
    const wrong = sources
      .filter((source) => !isTest(source))
      .flatMap((source) =>
        source.imports
          .filter((specifier) => specifier.startsWith('.'))
          .filter((specifier) => !join(source.path, '..', specifier).startsWith(join(name, 'src')))
          .map((specifier) => `${source.path} imports ${specifier}`),
      );
    expect(wrong).toEqual([]);
  });
});

test('core knows nothing of the world: no I/O, no clock, no ambient randomness', () => {
  const forbidden =
    /\b(?:Date\.now|new Date|Math\.random|performance\.now|setTimeout|setInterval|process\.)|from 'node:/;
  const wrong = sourcesOf('core/src')
    .filter((source) => !isTest(source))
    .filter((source) => forbidden.test(source.text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')))
    .map((source) => source.path);
  expect(wrong).toEqual([]);
});

test('the round machine and the agent session are pure', () => {
  const forbidden = /\b(?:Date\.now|Math\.random|setTimeout|await |async |Promise)|from 'node:/;
  for (const path of ['coordinator/src/round/round.ts', 'edge-agent/src/session/session.ts']) {
    expect(readFileSync(join(root, path), 'utf8')).not.toMatch(forbidden);
  }
});

test('the coordinator loads no native machine learning library', () => {
  const wrong = sourcesOf('coordinator/src').filter((source) =>
    source.imports.some((i) => /onnxruntime|tensorflow/.test(i)),
  );
  expect(wrong.map((source) => source.path)).toEqual([]);
});

test('file names are kebab-case', () => {
  const wrong = Object.keys(allowed)
    .flatMap((name) => sourcesOf(join(name, 'src')))
    .map((source) => source.path)
    .filter((path) => !/^[a-z0-9./-]+$/.test(path) || !statSync(join(root, path)).isFile());
  expect(wrong).toEqual([]);
});
