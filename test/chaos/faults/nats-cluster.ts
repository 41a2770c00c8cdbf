import { join } from 'node:path';
import { findNatsServer } from '../../../cli/src/nats/find-binary.ts';
import { NatsCluster } from '../../support/nats-cluster.ts';
import { quantilesOf } from '../quantiles.ts';
import type { Section } from '../section.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { readFolder } from './read-store.ts';

const SERVERS = 3;
/** A harm comes within this after the last one was got over. */
const LIFE_MS_MAX = 1_000;
const AWAY_MS_MAX = 3_000;
/** Up to beyond the 15 s after which a client gives a silent server up. */
const FROZEN_MS_MAX = 20_000;
const SHORT_FROZEN_MS_MAX = 3_000;
const LONG_FREEZES_FROM_MINUTES = 1;

/** A cluster of three NATS servers, of which one or all die, freeze or are cut off while agents and apps at each of them train and follow. */
export const natsCluster: Section = {
  name: 'nats-cluster',
  share: 4,
  lacks: async () =>
    findNatsServer() === undefined ? 'there is no nats-server: install it and put it on PATH' : undefined,
  async run(options) {
    const { name } = natsCluster;
    const cluster = await NatsCluster.start();
    const coordinator = await CoordinatorProcess.at('--nats', cluster.url(0));
    const urls = cluster.ports.map((_, server) => cluster.url(server));
    const federation = new Federation({ ...options, name, agents: urls, apps: [cluster.url(1)] });
    coordinator.dataDir = join(federation.folder, 'coordinator');
    coordinator.onSurprise = (text) => federation.violations.push(`I2: ${text}`);
    const { random } = federation;
    const resumeMs: number[] = [];
    const counts = { kills: 0, cluster_restarts: 0, freezes: 0, partitions: 0 };
    const frozenMsMax = options.minutes >= LONG_FREEZES_FROM_MINUTES ? FROZEN_MS_MAX : SHORT_FROZEN_MS_MAX;
    const harming = async (
      what: string,
      awayMsMax: number,
      begin: () => unknown,
      end: () => unknown,
    ): Promise<void> => {
      await pause(random.uniform() * LIFE_MS_MAX);
      await begin();
      await pause(random.uniform() * awayMsMax);
      await end();
      resumeMs.push(await federation.recovers(what, 1));
    };
    const all = cluster.ports.map((_, server) => server);
    try {
      await coordinator.serving();
      await federation.begin(coordinator.port);
      await federation.harm({
        'SIGKILL of a server': () => {
          const server = random.integer(SERVERS);
          counts.kills += 1;
          return harming(
            `SIGKILL of server ${server}`,
            AWAY_MS_MAX,
            () => cluster.kill(server),
            () => cluster.resume(server),
          );
        },
        'SIGKILL of all servers': () => {
          counts.cluster_restarts += 1;
          return harming(
            'SIGKILL of all servers',
            AWAY_MS_MAX,
            () => Promise.all(all.map((server) => cluster.kill(server))),
            () => Promise.all(all.map((server) => cluster.resume(server))),
          );
        },
        'SIGSTOP of a server': () => {
          const server = random.integer(SERVERS);
          counts.freezes += 1;
          return harming(
            `SIGSTOP of server ${server}`,
            frozenMsMax,
            () => cluster.freeze(server),
            () => cluster.thaw(server),
          );
        },
        'a server cut off from the others': () => {
          const server = random.integer(SERVERS);
          counts.partitions += 1;
          return harming(
            `server ${server} was cut off`,
            AWAY_MS_MAX,
            () => cluster.cutOff(server),
            () => cluster.heal(server),
          );
        },
      });
      await federation.end(coordinator.port);
      const code = await coordinator.end('SIGTERM');
      if (code !== 0) federation.violations.push(`I2: the coordinator ended with ${code} on SIGTERM`);
      return federation.report(await readFolder(coordinator.dataDir), {
        ...counts,
        ...quantilesOf('resume', resumeMs),
      });
    } finally {
      await federation.close();
      await coordinator.end('SIGKILL');
      await cluster.close();
    }
  },
};
