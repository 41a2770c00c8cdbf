/**
 * Given to a process with `--import`: names every step at which something becomes durable, writes the names down, or kills the process
 * at one of them, as `CRASH_AT` says ("before sql COMMIT", the n-th time by `CRASH_NTH`), or stops it at the one that stands in the file
 * `STOP_FILE`, which is gone then. Nothing of it is in the product.
 */
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import fs from 'node:fs';
import fsp, { type FileHandle } from 'node:fs/promises';
import { flushCompileCache, syncBuiltinESMExports } from 'node:module';
import { basename } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import pg from 'pg';

const { CRASH_AT: point, CRASH_NTH: nth = '1', CRASH_RECORD: record, STOP_FILE: stopFile } = process.env;
let left = Number(nth);
const [append, read, remove] = [appendFileSync, readFileSync, rmSync];

/** Stands still at the step that it is to stop at, until somebody lets it go on. */
function stopIfTold(name: string): void {
  if (stopFile === undefined) return;
  try {
    if (read(stopFile, 'utf8') !== name) return;
  } catch {
    // No file: it is to stop nowhere.
    return;
  }
  remove(stopFile);
  process.kill(process.pid, 'SIGSTOP');
}

/** One that is killed each time would never write down what it compiled. */
if (record !== undefined) setTimeout(flushCompileCache, 3_000).unref();

function reach(name: string): void {
  if (record !== undefined) append(record, `${name}\n`);
  stopIfTold(name);
  if (name !== point || (left -= 1) > 0) return;
  process.kill(process.pid, 'SIGKILL');
  // Nothing is done any more until the signal is here.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function around<T>(name: string | undefined, work: () => T): T {
  if (name === undefined) return work();
  reach(`before ${name}`);
  const result = work();
  if (!(result instanceof Promise)) {
    reach(`after ${name}`);
    return result;
  }
  return result.then((value) => {
    reach(`after ${name}`);
    return value as unknown;
  }) as T;
}

/** The kind of a file, by what it is called. */
function kindOf(path: string): string | undefined {
  if (/[\\/]outbox[\\/]/.test(path)) return 'outbox';
  if (/[\\/]blobs[\\/]/.test(path)) return 'blob cache';
  const name = basename(path).replace(/\.[0-9a-f]{12}\.tmp$/, '');
  if (/^residual-/.test(name)) return 'residual';
  if (/\.key$|\.pem$/.test(name)) return 'key';
  if (/^newest/.test(name)) return 'newest base';
  if (/\.updates$/.test(name)) return 'spool';
  return undefined;
}

const files = fsp as unknown as Record<string, (...args: never[]) => Promise<unknown>>;
const kinds = new WeakMap<object, string>();
const { open, rename, rm } = fsp;
Object.assign(files, {
  open: async (path: string, ...rest: [never]) => {
    const handle = await open(path, ...rest);
    // A folder is opened to be synced.
    const kind = kindOf(path) ?? (/[\\/]outbox$/.test(path) ? 'outbox folder' : undefined);
    if (kind !== undefined) kinds.set(handle, kind);
    return handle;
  },
  rename: (from: string, to: string) => around(named('rename', kindOf(to)), () => rename(from, to)),
  rm: (path: string, ...rest: [never]) => around(named('delete', kindOf(path)), () => rm(path, ...rest)),
});
const probe = await open(process.execPath, 'r');
const handles = Object.getPrototypeOf(probe) as FileHandle;
await probe.close();
for (const method of ['writeFile', 'write', 'sync'] as const) {
  const original = handles[method] as (...args: unknown[]) => Promise<unknown>;
  Object.assign(handles, {
    [method](this: object, ...args: unknown[]) {
      return around(named(method === 'sync' ? 'sync' : 'write', kinds.get(this)), () => original.apply(this, args));
    },
  });
}
const { writeFileSync, renameSync, fsyncSync } = fs;
Object.assign(fs, {
  writeFileSync: (path: string | number, ...rest: [never]) =>
    around(named('write', typeof path === 'string' ? kindOf(path) : 'key'), () => writeFileSync(path, ...rest)),
  renameSync: (from: string, to: string) => around(named('rename', kindOf(to)), () => renameSync(from, to)),
  fsyncSync: (file: number) => around('sync key', () => fsyncSync(file)),
});
syncBuiltinESMExports();

function named(deed: string, kind: string | undefined): string | undefined {
  return kind === undefined ? undefined : `${deed} ${kind}`;
}

/** What a statement does and to which table. */
function sqlName(sql: string): string | undefined {
  const text = sql.trim().replace(/\s+/g, ' ');
  const [, deed] = /^(BEGIN IMMEDIATE|BEGIN|COMMIT)\b/.exec(text) ?? [];
  // A script of several statements is no step.
  if (deed !== undefined && !/;./.test(text)) return `sql ${deed}`;
  const [, verb, table] = /^(INSERT|UPDATE|DELETE)(?: OR IGNORE)?(?: INTO| FROM)? (\w+)/.exec(text) ?? [];
  return verb === undefined ? undefined : `sql ${verb} ${table}`;
}

const { exec } = DatabaseSync.prototype;
DatabaseSync.prototype.exec = function (sql) {
  return around(sqlName(sql), () => exec.call(this, sql));
};
for (const method of ['run', 'get', 'all'] as const) {
  const original = StatementSync.prototype[method] as (...values: unknown[]) => unknown;
  Object.assign(StatementSync.prototype, {
    [method](this: StatementSync, ...values: unknown[]) {
      return around(sqlName(this.sourceSQL), () => original.apply(this, values));
    },
  });
}
const query = pg.Client.prototype.query as (...args: unknown[]) => unknown;
Object.assign(pg.Client.prototype, {
  query(this: object, ...args: unknown[]) {
    const [first] = args;
    const sql = typeof first === 'string' ? first : (first as { text?: string } | undefined)?.text;
    // Those with a callback are of the pool and of the library itself.
    if (sql === undefined || typeof args.at(-1) === 'function') return query.apply(this, args);
    return around(sqlName(sql), () => query.apply(this, args));
  },
});
