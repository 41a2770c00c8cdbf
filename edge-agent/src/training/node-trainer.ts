import type { ChildProcess } from 'node:child_process';
import type { EngineName } from './engine.ts';
import { chooseEngines } from './engines/choose.ts';
import { EngineOrder } from './engines/engine-order.ts';
import { forkBeside } from './engines/fork-source.ts';
import type { CpuBudget, FromTrainer } from './messages.ts';
import { Trainer, type StartTrainer } from './trainer.ts';

/** What trains an agent's models, and with how much of the machine. */
export interface TrainsOn {
  /** `auto`: what is fastest of what is there. */
  engine: EngineName | 'auto';
  budget: CpuBudget;
  stallMs?: number;
}

/**
 * Starts a process that trains and opens the data there. An engine that does not work here makes way for the next, and that is told.
 * Throws DataError where the data cannot be read.
 */
export async function openTrainer(
  data: string,
  { engine, ...more }: TrainsOn,
  warn: (text: string) => void,
): Promise<{ trainer: Trainer<string>; examples: number }> {
  const engines = new EngineOrder(await chooseEngines(engine, more.budget, warn));
  const trainer = new Trainer({ data, engines, start: startProcess, warn, ...more });
  return { trainer, examples: await trainer.open() };
}

export const startProcess: StartTrainer<string> = (onMessage, onEnd) => {
  const child = forkBeside(import.meta.url, 'trainer-process', [], { serialization: 'advanced' });
  child.on('message', (message: FromTrainer) => onMessage(message));
  child.once('exit', (code, signal) => onEnd(`the training process ended (${endOf(code, signal)})`));
  return {
    pid: child.pid,
    // One that has just died is told of by `exit`.
    post: (message) => void (child.connected && child.send(message)),
    end: () => gone(child),
  };
};

function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}

/** Nobody but the system, when it is short of memory, kills it; the JavaScript engine ends so when it can have none. */
const HUNGRY: readonly (NodeJS.Signals | null)[] = ['SIGKILL', 'SIGABRT', 'SIGTRAP'];

const endOf = (code: number | null, signal: NodeJS.Signals | null): string => {
  const name = signal ?? `exit code ${code}`;
  return HUNGRY.includes(signal) || code === 134 ? `${name}: was there too little memory?` : name;
};
