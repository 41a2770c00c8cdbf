import { mkdirSync, readdirSync, watch, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { AgentEvent } from '@commonweight/edge-agent';
import { commonweightWith, type Program } from '../../support/processes.ts';
import { endWithin } from './end-within.ts';

export interface AgentPlace {
  id: string;
  url: string;
  /** Data specification. */
  data: string;
  dir: string;
}

const SUFFIX = '.update';

/** A real agent in a process of its own, and what can be seen of it from outside: what it says, and which files come into its outbox. */
export class AgentProcess {
  readonly id: string;
  /** Ids that were in the outbox at any time, over all lives. */
  readonly outboxed = new Set<string>();
  onEvent: (event: AgentEvent) => void = () => {};
  /** It ended without having been told to. */
  onSurprise: (text: string) => void = () => {};
  /** More of its environment, from the next start on. */
  env: Readonly<Record<string, string>> = {};
  readonly #place: AgentPlace;
  readonly #outbox: string;
  readonly #watcher: FSWatcher;
  #program: Program | undefined;
  #endings = 0;

  constructor(place: AgentPlace) {
    this.id = place.id;
    this.#place = place;
    this.#outbox = join(place.dir, 'outbox');
    mkdirSync(this.#outbox, { recursive: true });
    // By the kernel and not by the agent's word: what it forgets is what is looked for.
    this.#watcher = watch(this.#outbox, (_, name) => {
      if (name?.endsWith(SUFFIX) === true) this.outboxed.add(name.slice(0, -SUFFIX.length));
    });
  }

  get pid(): number | undefined {
    return this.#program?.child.pid;
  }

  get runs(): boolean {
    const child = this.#program?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  start(): void {
    const { id, url, data, dir } = this.#place;
    const of = ['--json', '--coordinator', url, '--data', data, '--id', id, '--dir', dir];
    const program = commonweightWith(this.env, 'agent', ...of);
    this.#program = program;
    const { stdout } = program.child;
    if (stdout !== null) {
      createInterface({ input: stdout }).on('line', (line) => {
        if (line.startsWith('{')) this.onEvent(JSON.parse(line) as AgentEvent);
      });
    }
    const endings = this.#endings;
    program.child.once('exit', (code, signal) => {
      if (this.#endings !== endings) return;
      this.onSurprise(`agent ${id} ended by itself (${signal ?? code}): ${program.output().slice(-1000)}`);
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#endings += 1;
    const program = this.#program;
    this.#program = undefined;
    if (program !== undefined && !(await endWithin(program, signal))) {
      this.onSurprise(`agent ${this.id} does not end on ${signal}: ${program.output().slice(-1000)}`);
    }
  }

  /** Ids that are in the outbox now. */
  waiting(): string[] {
    return readdirSync(this.#outbox).flatMap((name) => (name.endsWith(SUFFIX) ? [name.slice(0, -SUFFIX.length)] : []));
  }

  close(): void {
    this.#watcher.close();
  }
}
