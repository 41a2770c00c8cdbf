import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { logistic, seeded, writeModel, type RandomStream } from '@commonweight/core';
import { adminOf, type Admin } from '../../support/admin.ts';
import { temporaryFolder, until } from '../../support/processes.ts';
import type { SectionOptions, SectionReport } from '../section.ts';
import { AgentProcess } from './agent-process.ts';
import { App } from './app.ts';
import { tallyOf, type Ending, type History } from './ledger.ts';

const MODEL = 'flowers';
const TASK = 'train';
const INPUTS = 4;
const CLASSES = 3;
const EXAMPLES = 40;
/** How long after the last harm a version may take: a round's time and the agents' longest wait (I7). */
const CALM_MS = 120_000;
/** How long outboxes may take to empty once no round opens any more; what is left in one then is not lost. */
const DRAIN_MS = 5_000;

export interface FederationOptions extends SectionOptions {
  name: string;
  /** Where each agent finds its coordinator; as many agents as there are addresses. */
  agents: readonly string[];
  apps: readonly string[];
  /** Made where it is not given. */
  folder?: string;
  /** Of the model's only task. */
  task?: object;
}

/** A real federated task: agents in processes of their own and apps that follow, beside coordinators that somebody else starts and harms. */
export class Federation {
  readonly folder: string;
  readonly random: RandomStream;
  readonly agents: readonly AgentProcess[];
  readonly apps: readonly App[];
  readonly violations: string[] = [];
  readonly #options: FederationOptions;
  readonly #told: { updateId: string; ending: Ending }[] = [];
  /** The imported one. */
  #highest = 1;

  constructor(options: FederationOptions) {
    this.#options = options;
    this.folder = options.folder ?? Federation.folderOf(options.name);
    this.random = seeded(options.seed).fork(options.name);
    this.agents = options.agents.map((url, i) => this.#agent(`agent-${i}`, url));
    this.apps = options.apps.map((url, i) => {
      const cacheDir = join(this.folder, `app-${i}`);
      return new App({ url, cacheDir, model: MODEL, inputs: INPUTS });
    });
  }

  static folderOf(name: string): string {
    return temporaryFolder(`chaos-${name}`);
  }

  /** The highest version of which an agent had a receipt. */
  get version(): number {
    return this.#highest;
  }

  #agent(id: string, url: string): AgentProcess {
    const dir = join(this.folder, id);
    mkdirSync(dir, { recursive: true });
    const file = join(dir, 'data.csv');
    writeFileSync(file, csvOf(this.random.fork(id)));
    const agent = new AgentProcess({ id, url, data: `csv:${file}`, dir });
    agent.onSurprise = (text) => this.violations.push(`I8: ${text}`);
    agent.onEvent = (event) => {
      if (event.type === 'receipt') {
        this.#highest = Math.max(this.#highest, event.version);
        this.#told.push({ updateId: event.updateId, ending: event.version });
      } else if (event.type === 'rejected') {
        this.#told.push({ updateId: event.updateId, ending: 'rejected' });
      }
    };
    return agent;
  }

  /** Imports the model, starts the task over an administrator's port, starts all agents and apps, and waits for the first versions. */
  async begin(port: number): Promise<void> {
    await withAdmin(port, async (admin) => {
      await admin.importModel(MODEL, writeModel(logistic({ inputs: INPUTS, outputs: CLASSES, seed: 1 })));
      await admin.createTask(TASK, {
        model: MODEL,
        plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.05 }, epochs: 1, batchSize: 10 },
        cohort: { min: Math.max(1, this.agents.length - 1), max: this.agents.length },
        collectMs: 15_000,
        pauseMs: 0,
        ...this.#options.task,
      });
      await admin.startTask(TASK);
    });
    for (const agent of this.agents) agent.start();
    await Promise.all(this.apps.map((app) => app.start()));
    await this.#moreWithin(2, CALM_MS);
  }

  async #moreWithin(versions: number, withinMs: number): Promise<void> {
    const goal = this.#highest + versions;
    await until(`version ${goal}`, withinMs, () => this.#highest >= goal);
  }

  /** Waits for versions after harm; that none comes is a broken promise. */
  async recovers(after: string, versions = 2): Promise<number> {
    const beganMs = performance.now();
    try {
      await this.#moreWithin(versions, CALM_MS);
    } catch {
      this.violations.push(`I7: no ${versions} versions within ${CALM_MS} ms after ${after}`);
    }
    return performance.now() - beganMs;
  }

  /** Does one harm after the other, each at least once, until the time is over. */
  async harm(kinds: Readonly<Record<string, () => Promise<void>>>): Promise<void> {
    const endMs = performance.now() + 60_000 * this.#options.minutes;
    const names = Object.keys(kinds);
    for (let turn = 0; turn < names.length || performance.now() < endMs; turn++) {
      // After the first turn of each, chance says which.
      const name = names[turn < names.length ? turn : this.random.integer(names.length)]!;
      this.#options.log(`${this.#options.name}: ${name}`);
      await kinds[name]!();
    }
  }

  /** Lets an agent's process die and starts it again. */
  async killAgent(agent: AgentProcess): Promise<void> {
    await agent.end('SIGKILL');
    agent.start();
  }

  /** After the last harm: no round opens any more, outboxes empty, apps end, agents end in order. */
  async end(port: number): Promise<void> {
    await this.recovers('the last harm');
    let refusal = '';
    const paused = async (): Promise<boolean> => {
      try {
        await withAdmin(port, (admin) => admin.pauseTask(TASK));
        return true;
      } catch (error) {
        refusal = (error as Error).message;
        return false;
      }
    };
    await until('the task to pause', CALM_MS, paused, () => refusal);
    const endMs = performance.now() + DRAIN_MS;
    while (performance.now() < endMs && this.agents.some((agent) => agent.waiting().length > 0)) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await Promise.all(this.apps.map((app) => app.end()));
    await Promise.all(this.agents.map((agent) => agent.end('SIGTERM')));
  }

  /** Ends whatever is left, when something went wrong. */
  async close(): Promise<void> {
    await Promise.all(this.apps.map((app) => app.end()));
    await Promise.all(this.agents.map((agent) => agent.end('SIGKILL')));
    for (const agent of this.agents) agent.close();
  }

  /** Holds what was seen against what the store has. */
  report(store: Pick<History, 'versions' | 'receipts'>, figures: Readonly<Record<string, number>>): SectionReport {
    const history: History = {
      ...store,
      outboxed: new Set(this.agents.flatMap((agent) => [...agent.outboxed])),
      waiting: new Set(this.agents.flatMap((agent) => agent.waiting())),
      told: this.#told,
      served: new Map(
        this.apps.flatMap(({ served, answered }, i) => [
          [`app ${i}`, served] as const,
          [`predictions of app ${i}`, answered] as const,
        ]),
      ),
    };
    const { violations, ...counts } = tallyOf(history);
    const failures = this.apps.reduce((sum, app) => sum + app.failures, 0);
    if (failures > 0) violations.push(`I4: ${failures} predictions of apps that had a version failed`);
    if (counts.updates === 0) violations.push('I7: no update reached an outbox');
    const predictions = this.apps.reduce((sum, app) => sum + app.predictions, 0);
    return { figures: { ...counts, predictions, ...figures }, violations: [...this.violations, ...violations] };
  }
}

/** Examples of a class each, near the axis of the class. */
function csvOf(random: RandomStream): string {
  const rows = Array.from({ length: EXAMPLES }, (_, row) => {
    const label = row % CLASSES;
    const values = Array.from({ length: INPUTS }, (_value, i) => (i === label ? 1 : 0) + 0.3 * random.normal());
    return [...values.map((value) => value.toFixed(4)), label].join(',');
  });
  return `a,b,c,d,label\n${rows.join('\n')}\n`;
}

async function withAdmin(port: number, work: (admin: Admin) => Promise<unknown>): Promise<void> {
  const admin = adminOf(port);
  try {
    await work(admin);
  } finally {
    admin.close();
  }
}
