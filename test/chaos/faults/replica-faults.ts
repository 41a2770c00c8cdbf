import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findPostgres, POSTGRES_MEND, PostgresServer } from '../../support/postgres.ts';
import { until } from '../../support/processes.ts';
import type { Section, SectionOptions, SectionReport } from '../section.ts';
import { PRELOAD } from '../crash-points/points.ts';
import { together, type Run } from '../together.ts';
import type { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { readPostgres } from './read-store.ts';
import { ReplicaSet } from './replica-set.ts';

const REPLICAS = 3;
/** A harm comes within this after the last one was got over. */
const LIFE_MS_MAX = 2_000;
const FAILOVER_MS_MAX = 60_000;
/** A pause outlasts a lease of 3.5 s, so that another leads when it ends. */
const PAUSE_MS_MIN = 4_000;
const PAUSE_MS_MAX = 10_000;
/** Where the section has this many minutes, pauses are longer, and several sets of replicas are paused at once: it costs nothing to stand still. */
const LONG_FROM_MINUTES = 3;
const LONG_PAUSE_MS_MIN = 10_000;
const LONG_PAUSE_MS_MAX = 30_000;
const SETS = 6;
/** The worst moments: inside a transaction, and around its end. */
const STOP_POINTS = [
  'before sql BEGIN',
  'after sql BEGIN',
  'before sql INSERT versions',
  'after sql INSERT blobs',
  'before sql INSERT receipts',
  'before sql UPDATE leases',
  'before sql COMMIT',
  'after sql COMMIT',
];
/** A leader that commits comes by each of them within this. */
const REACH_MS = 20_000;
/** PostgreSQL is away for less than the 15 s that a coordinator waits for it. */
const AWAY_MS_MAX = 5_000;

interface Harmed {
  server: PostgresServer;
  set: ReplicaSet;
  federation: Federation;
  failoverMs: number[];
  resumeMs: number[];
  counts: { kills: number; pauses: number; pauses_at_points: number; server_kills: number };
}

const lacks = async (): Promise<string | undefined> =>
  findPostgres() === undefined ? `there is no PostgreSQL: ${POSTGRES_MEND}` : undefined;

/** A section over PostgreSQL: only its harm is its own. */
function replicaSection(
  name: string,
  share: number,
  kindsOf: (harmed: Harmed, options: SectionOptions) => Harms,
  { sets = () => 1, task = {} }: { sets?: (options: SectionOptions) => number; task?: object } = {},
): Section {
  const runOne = async (options: SectionOptions): Promise<Run> => {
    const server = await PostgresServer.start();
    let set: ReplicaSet | undefined;
    let federation: Federation | undefined;
    try {
      const folder = Federation.folderOf(name);
      set = await ReplicaSet.start(folder, server, REPLICAS, (place) => ({
        NODE_OPTIONS: PRELOAD,
        STOP_FILE: stopFile(folder, place),
      }));
      const agents = [set.url, set.url, set.url];
      federation = new Federation({ ...options, name, folder, agents, apps: [set.url], task });
      const counts = { kills: 0, pauses: 0, pauses_at_points: 0, server_kills: 0 };
      const harmed: Harmed = { server, set, federation, failoverMs: [], resumeMs: [], counts };
      await federation.begin(set.port);
      await federation.harm(kindsOf(harmed, options));
      await federation.end(set.port);
      const codes = await set.end('SIGTERM');
      if (codes.some((code) => code !== 0)) {
        federation.violations.push(`I2: replicas ended with ${codes.join(', ')} on SIGTERM`);
      }
      const { failoverMs, resumeMs } = harmed;
      const seen = await readPostgres(server, set.database);
      const { figures, violations } = federation.report(seen, { ...counts, restarts: set.restarts });
      return { counts: figures, timesMs: { failover: failoverMs, resume: resumeMs }, violations };
    } finally {
      await federation?.close();
      await set?.end('SIGKILL');
      await server.close();
    }
  };
  const run = async (options: SectionOptions): Promise<SectionReport> => {
    const all = Array.from({ length: sets(options) }, (_, i) => runOne({ ...options, seed: options.seed + 1000 * i }));
    return together(await Promise.all(all));
  };
  return { name, share, lacks, run };
}

/** What a replica looks for at each step: the one at which it is to stop. */
const stopFile = (folder: string, place: number): string => join(folder, `stop-${place}`);

type Harms = Readonly<Record<string, () => Promise<void>>>;

/** SIGKILL of whoever leads, and of those who wait. */
export const replicaKills: Section = replicaSection('replica-kills', 4, (harmed) => {
  const { set, federation, failoverMs, resumeMs, counts } = harmed;
  const { random } = federation;
  return {
    'SIGKILL of the leader': async () => {
      await pause(random.uniform() * LIFE_MS_MAX);
      const { epoch, replica } = await set.leader();
      if (replica === undefined) return;
      await set.harming(replica, async () => {
        await replica.end('SIGKILL');
        counts.kills += 1;
        failoverMs.push(await set.failover(epoch, FAILOVER_MS_MAX));
        resumeMs.push(await federation.recovers('SIGKILL of the leader', 1));
      });
    },
    'SIGKILL of a replica': async () => {
      await pause(random.uniform() * LIFE_MS_MAX);
      const replica = set.replicas[random.integer(REPLICAS)]!;
      await replica.end('SIGKILL');
      counts.kills += 1;
      resumeMs.push(await federation.recovers('SIGKILL of a replica', 1));
    },
  };
});

const isLong = ({ minutes }: SectionOptions): boolean => minutes >= LONG_FROM_MINUTES;

/** SIGSTOP of whoever leads until another does; then it wakes and must not commit. */
export const replicaPauses: Section = replicaSection(
  'replica-pauses',
  14,
  (harmed, options) => {
    const { set, federation, failoverMs, resumeMs, counts } = harmed;
    const { random } = federation;
    const [leastMs, mostMs] = isLong(options) ? [LONG_PAUSE_MS_MIN, LONG_PAUSE_MS_MAX] : [PAUSE_MS_MIN, PAUSE_MS_MAX];
    /** `stop` has the leader stand still, or says that it came to nothing. */
    const stopped = async (stop: (leader: CoordinatorProcess) => Promise<boolean>): Promise<void> => {
      await pause(random.uniform() * LIFE_MS_MAX);
      const { epoch, replica } = await set.leader();
      if (replica === undefined || !(await stop(replica))) return;
      counts.pauses += 1;
      const lengthMs = leastMs + random.uniform() * (mostMs - leastMs);
      const [tookMs] = await Promise.all([set.failover(epoch, FAILOVER_MS_MAX), pause(lengthMs)]);
      failoverMs.push(tookMs);
      replica.signal('SIGCONT');
      resumeMs.push(await federation.recovers('SIGSTOP of the leader', 1));
    };
    return {
      'SIGSTOP of the leader': () =>
        stopped(async (leader) => {
          leader.signal('SIGSTOP');
          return true;
        }),
      'SIGSTOP of the leader at the worst moment': () =>
        stopped(async (leader) => {
          const file = stopFile(federation.folder, set.replicas.indexOf(leader));
          const point = STOP_POINTS[random.integer(STOP_POINTS.length)]!;
          writeFileSync(file, point);
          const isAt = await until(
            `the leader to stop ${point}`,
            REACH_MS,
            () => !existsSync(file) || !leader.runs,
          ).then(
            () => !existsSync(file),
            () => false,
          );
          rmSync(file, { force: true });
          if (isAt) counts.pauses_at_points += 1;
          return isAt;
        }),
    };
  },
  // Rounds one after the other would leave no time for the other sets.
  { sets: (options) => (isLong(options) ? SETS : 1), task: { pauseMs: 200 } },
);

/** SIGKILL of PostgreSQL with all its processes under a leader that lives. */
export const postgresKills: Section = replicaSection('postgres-kills', 4, (harmed) => {
  const { server, federation, set, resumeMs, counts } = harmed;
  const { random } = federation;
  const killServer = async (awayMs: number): Promise<void> => {
    await pause(random.uniform() * LIFE_MS_MAX);
    await server.kill();
    counts.server_kills += 1;
    await pause(awayMs);
    await server.resume();
  };
  return {
    'SIGKILL of the server': async () => {
      await killServer(random.uniform() * AWAY_MS_MAX);
      resumeMs.push(await federation.recovers('SIGKILL of the server', 1));
    },
    'SIGKILL of the server and of a replica': async () => {
      const replica = set.replicas[random.integer(REPLICAS)]!;
      await killServer(0);
      await replica.end('SIGKILL');
      counts.kills += 1;
      resumeMs.push(await federation.recovers('SIGKILL of the server and of a replica', 1));
    },
  };
});
