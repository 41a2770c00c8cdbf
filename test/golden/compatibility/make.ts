// Writes the data of an older commit anew: `node --conditions=@commonweight/source test/golden/compatibility/make.ts COMMIT NAME`. It
// needs git, PostgreSQL and pg_dump. Done once for each schema, with the last commit that has it, and never again.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PostgresServer } from '../../support/postgres.ts';

const [commit = '', name = ''] = process.argv.slice(2);
if (name === '') throw new Error('say which commit, and the name of the folder to write');
const here = import.meta.dirname;
const root = join(here, '../../..');
const folder = mkdtempSync(join(tmpdir(), 'commonweight-compatibility-'));
const tree = join(folder, 'tree');

/** The sources of the commit, with the dependencies of today. */
function checkOut(): void {
  mkdirSync(join(tree, 'node_modules/@commonweight'), { recursive: true });
  const archive = execFileSync('git', ['archive', commit], { cwd: root, maxBuffer: 2 ** 30 });
  execFileSync('tar', ['-x', '-C', tree], { input: archive });
  for (const one of readdirSync(join(root, 'node_modules'))) {
    if (one !== '@commonweight') symlinkSync(join(root, 'node_modules', one), join(tree, 'node_modules', one));
  }
  for (const one of readdirSync(join(root, 'node_modules/@commonweight'))) {
    symlinkSync(join(tree, one), join(tree, 'node_modules/@commonweight', one));
  }
  mkdirSync(join(tree, 'test/golden/compatibility'), { recursive: true });
  copyFileSync(join(here, 'write.ts'), join(tree, 'test/golden/compatibility/write.ts'));
}

function write(...args: string[]): void {
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=@commonweight/source'];
  execFileSync(process.execPath, [...flags, join(tree, 'test/golden/compatibility/write.ts'), ...args], { stdio: 'inherit' });
}

/** Without what only the server of the dump understands. */
const portable = (dump: string): string =>
  dump
    .split('\n')
    .filter((line) => !/^(SET |\\|--|SELECT pg_catalog\.set_config|$)/.test(line))
    .join('\n');

checkOut();
const into = join(here, name);
mkdirSync(into, { recursive: true });
write('sqlite', join(folder, 'sqlite'));
const database = new DatabaseSync(join(folder, 'sqlite/data/commonweight.sqlite'));
// One file, without the log beside it.
database.exec('PRAGMA journal_mode = DELETE; VACUUM');
database.close();
copyFileSync(join(folder, 'sqlite/data/commonweight.sqlite'), join(into, 'commonweight.sqlite'));
for (const file of ['expected.json', 'messages.json']) copyFileSync(join(folder, 'sqlite', file), join(into, file));
const server = await PostgresServer.start();
try {
  const url = server.url(await server.database());
  write('postgres', join(folder, 'postgres'), url);
  const dump = execFileSync('pg_dump', ['--inserts', '--no-owner', '--no-privileges', url], { encoding: 'utf8' });
  writeFileSync(join(into, 'postgres.sql'), `${portable(dump)}\n`);
} finally {
  await server.close();
}
rmSync(folder, { recursive: true, force: true });
