import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { accessSync, chmodSync, chownSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { rm } from 'node:fs/promises';
import { Client } from 'pg';
import { freePort } from './free-port.ts';
import { temporaryFolder, until } from './processes.ts';

export const POSTGRES_MEND =
  'install PostgreSQL 13 or newer (Debian: apt-get install postgresql; macOS: brew install postgresql) and put its bin folder on PATH';

/** The folder of `initdb` and `postgres`: on PATH, or where Debian puts them, the newest first. */
export function findPostgres(path: string = process.env['PATH'] ?? ''): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...path.split(delimiter).filter(Boolean),
    ...versions.map((version) => join(debian, version, 'bin')),
  ];
  return folders.find((folder) => ['initdb', 'postgres'].every((name) => isProgram(join(folder, name))));
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A real server on a port of the loopback interface, its data in a folder of its own, every commit flushed. */
export class PostgresServer {
  readonly #bin: string;
  readonly #folder: string;
  readonly #port: number;
  #child: ChildProcess | undefined;
  #output = '';
  #databases = 0;

  private constructor(bin: string, folder: string, port: number) {
    this.#bin = bin;
    this.#folder = folder;
    this.#port = port;
    process.once('exit', () => this.#child?.kill('SIGKILL'));
  }

  static async start(): Promise<PostgresServer> {
    const bin = findPostgres();
    if (bin === undefined) throw new Error(`the tests need PostgreSQL and there is none: ${POSTGRES_MEND}`);
    const folder = temporaryFolder('postgres');
    const user = serverUser();
    chmodSync(folder, 0o700);
    if (user !== undefined) chownSync(folder, user.uid, user.gid);
    const flags = ['--auth=trust', '--username=tester', '--encoding=UTF8', '--locale=C', '--no-sync'];
    execFileSync(join(bin, 'initdb'), [...flags, '--pgdata', join(folder, 'data')], {
      ...user,
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const server = new PostgresServer(bin, folder, await freePort());
    await server.resume();
    return server;
  }

  /** Starts the server, again after a kill. */
  async resume(): Promise<void> {
    const settings = ['fsync=on', 'listen_addresses=127.0.0.1', `port=${this.#port}`, `unix_socket_directories=`];
    const args = ['-D', join(this.#folder, 'data'), ...settings.flatMap((setting) => ['-c', setting])];
    const again = async (): Promise<boolean> => {
      if (this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) {
        // A child of the server before may not be gone yet, and then this one ends at once.
        this.#child = spawn(join(this.#bin, 'postgres'), args, {
          ...serverUser(),
          cwd: this.#folder,
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        this.#child.stderr?.on('data', (text) => (this.#output = `${this.#output}${String(text)}`.slice(-20_000)));
      }
      return this.#answers();
    };
    await until('PostgreSQL to answer', 30_000, again, () => this.#output);
  }

  async #answers(): Promise<boolean> {
    try {
      await this.query('postgres', 'SELECT 1');
      return true;
    } catch {
      return false;
    }
  }

  /** SIGKILL to the server and all that it started. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    const children = childrenOf(child.pid);
    child.kill('SIGKILL');
    for (const pid of children) killQuietly(pid);
    await gone;
  }

  /** A new database. */
  async database(): Promise<string> {
    const name = `test${(this.#databases += 1)}`;
    await this.query('postgres', `CREATE DATABASE ${name}`);
    return name;
  }

  url(database: string): string {
    return `postgres://tester@127.0.0.1:${this.#port}/${database}`;
  }

  async query(database: string, sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    const client = new Client({ connectionString: this.url(database), connectionTimeoutMillis: 2000 });
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(sql, values)).rows;
    } finally {
      await client.end();
    }
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** PostgreSQL refuses to run as root. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout.trim());
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error('PostgreSQL refuses to run as root, and this machine has no user postgres or nobody');
}

function childrenOf(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').split(' ').filter(Boolean).map(Number);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
