import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { findPostgres, POSTGRES_MEND, PostgresServer } from '../../support/postgres.ts';
import { until } from '../../support/processes.ts';
import type { AgentProcess } from '../faults/agent-process.ts';
import { CoordinatorProcess } from '../faults/coordinator-process.ts';
import { Federation } from '../faults/federation.ts';
import { readFolder, readPostgres } from '../faults/read-store.ts';
import type { Section, SectionOptions } from '../section.ts';
import { together, type Run } from '../together.ts';
import { PRELOAD } from './points.ts';

/** Steps that every run must find: one that was renamed or went away is looked at by a person. */
const COORDINATOR_STEPS = [
  'sql INSERT versions',
  'sql INSERT blobs',
  'sql INSERT blob_chunks',
  'sql INSERT receipts',
  'sql INSERT tasks',
  'sql COMMIT',
];
const AGENT_STEPS = [
  'write outbox',
  'sync outbox',
  'rename outbox',
  'sync outbox folder',
  'delete outbox',
  'write residual',
  'rename residual',
  'write newest base',
  'rename newest base',
  'write blob cache',
  'write key',
  'rename key',
];
/** A step is reached within this, or the run has gone wrong. */
const REACH_MS = 60_000;
/** Versions during which steps are written down. */
const RECORD_VERSIONS = 3;
/** A point is died at the first, second, ... of this many times that it is come by, where that is within a few rounds. */
const NTH_MAX = 3;
/** Some steps hang on timing, such as a checkpoint that finds something new, or on the rows of a replica that died just before. */
const UNREACHED_SHARE_MAX = 0.2;
/** Where the section has this many minutes, several federations die at their points at once: most of the time they wait, over PostgreSQL for the lease. */
const LONG_FROM_MINUTES = 10;
const FEDERATIONS = { sqlite: 3, postgres: 8 };
/** Points that are tried where there is no time: the whole list takes minutes. */
const POINTS_MIN = 8;

interface Victim {
  what: 'the coordinator' | 'an agent';
  process: { env: Readonly<Record<string, string>>; end(signal: NodeJS.Signals): Promise<unknown> };
  start(): Promise<void> | void;
  ended(): boolean;
  /** Before a start that is to come to a step of the first start of all. */
  forget(): void;
  steps: readonly string[];
}

function section(name: string, store: 'sqlite' | 'postgres', share: number): Section {
  return {
    name,
    share,
    lacks: async () =>
      store === 'postgres' && findPostgres() === undefined ? `there is no PostgreSQL: ${POSTGRES_MEND}` : undefined,
    run: async (options) => {
      const server = store === 'postgres' ? await PostgresServer.start() : undefined;
      try {
        const federations = options.minutes >= LONG_FROM_MINUTES ? FEDERATIONS[store] : 1;
        const runs = Array.from({ length: federations }, (_, i) =>
          runOver(name, server, { ...options, seed: options.seed + 1000 * i }),
        );
        return together(await Promise.all(runs));
      } finally {
        await server?.close();
      }
    },
  };
}

async function runOver(name: string, server: PostgresServer | undefined, options: SectionOptions): Promise<Run> {
  const database = await server?.database();
  const coordinator = await CoordinatorProcess.at(
    ...(server === undefined ? [] : ['--postgres', server.url(database!)]),
  );
  const url = `grpc://127.0.0.1:${coordinator.port}`;
  const federation = new Federation({ ...options, name, agents: [url, url], apps: [url] });
  const { random } = federation;
  coordinator.dataDir = join(federation.folder, 'coordinator');
  const agent = federation.agents[0]!;
  const { onSurprise } = agent;
  agent.onSurprise = (text) => {
    const isAsked = agent.env['CRASH_AT'] !== undefined && text.includes('(SIGKILL)');
    if (!isAsked) onSurprise(text);
  };
  const resumeMs: number[] = [];
  let [runs, unreached] = [0, 0];
  try {
    await coordinator.serving();
    await federation.begin(coordinator.port);
    const victims: Victim[] = [
      {
        what: 'the coordinator',
        process: coordinator,
        start: () => coordinator.serving(),
        ended: () => !coordinator.runs,
        forget: () => {},
        steps: [...COORDINATOR_STEPS, server === undefined ? 'sql BEGIN IMMEDIATE' : 'sql BEGIN'],
      },
      ...(server === undefined ? [agentVictim(agent, join(federation.folder, agent.id))] : []),
    ];
    const points: { victim: Victim; point: string; times: number }[] = [];
    for (const victim of victims) {
      for (const [point, times] of await recorded(victim, federation)) points.push({ victim, point, times });
    }
    options.log(`${points.length} points`);
    const endMs = Date.now() + 60_000 * options.minutes;
    const order = random.shuffle([...points.keys()]);
    for (let turn = 0; ; turn++) {
      const isAll = turn >= points.length;
      const isEnough = options.minutes === 0 ? turn >= POINTS_MIN : isAll && Date.now() >= endMs;
      if (isEnough) break;
      const { victim, point, times } = points[order[turn % order.length]!]!;
      const often = isOnce(point) ? 1 : Math.min(NTH_MAX, Math.floor(times / RECORD_VERSIONS));
      const nth = String(1 + random.integer(Math.max(1, often)));
      options.log(`SIGKILL of ${victim.what} ${point}, the ${nth}. time`);
      await victim.process.end('SIGKILL');
      victim.forget();
      victim.process.env = { NODE_OPTIONS: PRELOAD, CRASH_AT: point, CRASH_NTH: nth };
      // It may die before it listens.
      await Promise.race([victim.start(), until('the end', REACH_MS, victim.ended)]).catch(() => undefined);
      const isReached = await until('the point', REACH_MS, victim.ended).then(
        () => true,
        () => false,
      );
      if (!isReached) {
        options.log(`${victim.what} never came to the point ${point}`);
        unreached += 1;
      }
      victim.process.env = {};
      await victim.process.end('SIGKILL');
      await victim.start();
      resumeMs.push(await federation.recovers(`${victim.what} died ${point}`, 1));
      runs += 1;
    }
    if (unreached > UNREACHED_SHARE_MAX * runs) {
      federation.violations.push(
        `harness: ${unreached} of ${runs} points were never come by, so nothing was tried there`,
      );
    }
    await federation.end(coordinator.port);
    await coordinator.end('SIGTERM');
    const seen = server === undefined ? await readFolder(coordinator.dataDir) : await readPostgres(server, database!);
    const { figures, violations } = federation.report(seen, { crash_runs: runs, crash_points_unreached: unreached });
    return { counts: figures, sizes: { crash_points: points.length }, timesMs: { resume: resumeMs }, violations };
  } finally {
    await federation.close();
    await coordinator.end('SIGKILL');
  }
}

/** A step of the first start of all, which comes once or few times a life. */
const isOnce = (point: string): boolean => / (key|blob cache)$/.test(point);

function agentVictim(agent: AgentProcess, dir: string): Victim {
  return {
    what: 'an agent',
    process: agent,
    start: () => agent.start(),
    ended: () => !agent.runs,
    forget: () => {
      rmSync(join(dir, 'coordinator.key'), { force: true });
      // What is cached is not fetched again.
      rmSync(join(dir, 'blobs'), { recursive: true, force: true });
    },
    steps: AGENT_STEPS,
  };
}

/**
 * The points that a process comes by in some rounds, before and after each step, and how often it does. Throws where a step that must be
 * there is not.
 */
async function recorded(victim: Victim, federation: Federation): Promise<Map<string, number>> {
  const file = join(federation.folder, `points of ${victim.what}`);
  await victim.process.end('SIGKILL');
  victim.forget();
  victim.process.env = { NODE_OPTIONS: PRELOAD, CRASH_RECORD: file };
  await victim.start();
  await federation.recovers('a restart', RECORD_VERSIONS);
  const text = (): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const missing = (): string[] => victim.steps.filter((step) => !text().includes(`before ${step}\n`));
  await until(
    'all steps',
    REACH_MS,
    () => missing().length === 0,
    () => `never seen: ${missing().join(', ')}`,
  );
  const times = new Map<string, number>();
  for (const point of text().trim().split('\n').sort()) times.set(point, (times.get(point) ?? 0) + 1);
  return times;
}

/** SIGKILL of the coordinator on SQLite and of an agent before and after each step at which something becomes durable. */
export const crashPoints: Section = section('crash-points', 'sqlite', 36);
/** The same of a coordinator on PostgreSQL. */
export const crashPointsPostgres: Section = section('crash-points-postgres', 'postgres', 14);
