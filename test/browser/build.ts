import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type InlineConfig, type Plugin, type Rolldown } from 'vite';

const root = join(import.meta.dirname, '../..');

/** The sources name workers as the build will: in the sources each is a `.ts`. */
const workerFromSource: Plugin = {
  name: 'worker-from-source',
  enforce: 'pre',
  transform: (code, id) =>
    /(client-sdk|edge-agent)\/src\/.*\.ts$/.test(id)
      ? code.replaceAll(/new URL\('(\.\/[^']*-worker)\.js'/g, "new URL('$1.ts'")
      : undefined,
};

const FROM_SOURCE = {
  configFile: false,
  logLevel: 'error',
  resolve: { conditions: ['@commonweight/source', 'browser', 'module', 'import', 'default'] },
  plugins: [workerFromSource],
  worker: { format: 'es', plugins: () => [workerFromSource] },
} satisfies InlineConfig;

/** An example page as `vite build` makes it, but from the sources of the SDK. */
export const buildExample = (outDir: string, name: 'digits' | 'react' | 'teach' = 'digits'): Promise<void> =>
  buildPage(join('examples', name), outDir);

/** A page of this repository. */
export async function buildPage(folder: string, outDir: string): Promise<void> {
  const options = { outDir, emptyOutDir: true, target: 'es2024' } as const;
  await build({ ...FROM_SOURCE, plugins: [workerFromSource], root: join(root, folder), build: options });
}

/** Bytes after gzip of what a page has to load before it can connect by HTTP, and of what NATS and explanations add. */
export async function sdkSizes(): Promise<{ start: number; nats: number; explain: number }> {
  const built = await build({
    ...FROM_SOURCE,
    plugins: [workerFromSource],
    build: {
      write: false,
      target: 'es2024',
      rolldownOptions: {
        input: join(root, 'client-sdk/src/browser.ts'),
        // As in the build of an app, what is needed at once is in one part.
        preserveEntrySignatures: 'allow-extension',
      },
    },
  });
  const { output } = built as Rolldown.RolldownOutput;
  const chunks = output.filter((one): one is Rolldown.OutputChunk => one.type === 'chunk');
  const entry = chunks.find(({ isEntry }) => isEntry);
  if (entry === undefined) throw new Error('the build has no entry');
  const byName = new Map(chunks.map((chunk) => [chunk.fileName, chunk]));
  const closure = (from: string, known: Set<string> = new Set()): Set<string> => {
    if (!known.has(from)) {
      known.add(from);
      for (const name of byName.get(from)?.imports ?? []) closure(name, known);
    }
    return known;
  };
  const bytes = (names: Iterable<string>): number =>
    [...names].reduce((sum, name) => sum + gzipSync(byName.get(name)?.code ?? '', { level: 9 }).length, 0);
  const start = closure(entry.fileName);
  const later = (hint: string): number => {
    const name = entry.dynamicImports.find((one) => one.includes(hint));
    if (name === undefined) throw new Error(`the build has no part of its own for ${hint}`);
    return bytes([...closure(name)].filter((one) => !start.has(one)));
  };
  return { start: bytes(start), nats: later('nats'), explain: later('explainer') };
}
