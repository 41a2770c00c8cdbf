import { findPostgres, POSTGRES_MEND, PostgresServer } from '../../support/postgres.ts';
import type { Section, SectionOptions, SectionReport } from '../section.ts';
import { Federation, quantile } from './federation.ts';
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
/** Where the section has this many minutes, pauses may be longer. */
const LONG_PAUSES_FROM_MINUTES = 3;
const LONG_PAUSE_MS_MAX = 30_000;
/** PostgreSQL is away for less than the 15 s that a coordinator waits for it. */
const AWAY_MS_MAX = 5_000;

interface Harmed {
  server: PostgresServer;
  set: ReplicaSet;
  federation: Federation;
  failoverMs: number[];
  resumeMs: number[];
  counts: { kills: number; pauses: number; server_kills: number };
}

const lacks = async (): Promise<string | undefined> =>
  findPostgres() === undefined ? `there is no PostgreSQL: ${POSTGRES_MEND}` : undefined;

/** A section over PostgreSQL: only its harm is its own. */
function replicaSection(name: string, kindsOf: (harmed: Harmed, options: SectionOptions) => Harms): Section {
  const run = async (options: SectionOptions): Promise<SectionReport> => {
    const server = await PostgresServer.start();
    let set: ReplicaSet | undefined;
    let federation: Federation | undefined;
    try {
      const folder = Federation.folderOf(name);
      set = await ReplicaSet.start(folder, server, REPLICAS);
      federation = new Federation({ ...options, name, folder, agents: [set.url, set.url, set.url], apps: [set.url] });
      const counts = { kills: 0, pauses: 0, server_kills: 0 };
      const harmed: Harmed = { server, set, federation, failoverMs: [], resumeMs: [], counts };
      await federation.begin(set.port);
      await federation.harm(kindsOf(harmed, options));
      await federation.end(set.port);
      const codes = await set.end('SIGTERM');
      if (codes.some((code) => code !== 0)) {
        federation.violations.push(`I2: replicas ended with ${codes.join(', ')} on SIGTERM`);
      }
      const { failoverMs, resumeMs } = harmed;
      const times = failoverMs.length === 0 ? {} : quantilesOf('failover', failoverMs);
      return federation.report(await readPostgres(server, set.database), {
        ...counts,
        restarts: set.restarts,
        ...times,
        ...quantilesOf('resume', resumeMs),
      });
    } finally {
      await federation?.close();
      await set?.end('SIGKILL');
      await server.close();
    }
  };
  return { name, lacks, run };
}

type Harms = Readonly<Record<string, () => Promise<void>>>;

const quantilesOf = (what: string, valuesMs: readonly number[]): Record<string, number> => ({
  [`${what}_p50_ms`]: quantile(valuesMs, 0.5),
  [`${what}_p99_ms`]: quantile(valuesMs, 0.99),
});

/** SIGKILL of whoever leads, and of those who wait. */
export const replicaKills: Section = replicaSection('replica-kills', (harmed) => {
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

/** SIGSTOP of whoever leads until another does; then it wakes and must not commit. */
export const replicaPauses: Section = replicaSection('replica-pauses', (harmed, { minutes }) => {
  const { set, federation, failoverMs, resumeMs, counts } = harmed;
  const { random } = federation;
  const pauseMsMax = minutes >= LONG_PAUSES_FROM_MINUTES ? LONG_PAUSE_MS_MAX : PAUSE_MS_MAX;
  return {
    'SIGSTOP of the leader': async () => {
      await pause(random.uniform() * LIFE_MS_MAX);
      const { epoch, replica } = await set.leader();
      if (replica === undefined) return;
      const lengthMs = PAUSE_MS_MIN + random.uniform() * (pauseMsMax - PAUSE_MS_MIN);
      replica.signal('SIGSTOP');
      counts.pauses += 1;
      const [tookMs] = await Promise.all([set.failover(epoch, FAILOVER_MS_MAX), pause(lengthMs)]);
      failoverMs.push(tookMs);
      replica.signal('SIGCONT');
      resumeMs.push(await federation.recovers('SIGSTOP of the leader', 1));
    },
  };
});

/** SIGKILL of PostgreSQL with all its processes under a leader that lives. */
export const postgresKills: Section = replicaSection('postgres-kills', (harmed) => {
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
