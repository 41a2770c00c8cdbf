import { join } from 'node:path';
import { quantilesOf } from '../quantiles.ts';
import type { Section } from '../section.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { readFolder } from './read-store.ts';

/** A kill comes within this after the last one was got over. */
const LIFE_MS_MAX = 2_000;
/** A second kill comes within this after the start of the process. */
const YOUNG_MS_MAX = 1_000;

/** SIGKILL of the one coordinator over a SQLite file, again and again while it trains. */
export const coordinatorKills: Section = {
  name: 'coordinator-kills',
  share: 4,
  lacks: async () => undefined,
  async run(options) {
    const { name } = coordinatorKills;
    const coordinator = await CoordinatorProcess.at();
    const url = `grpc://127.0.0.1:${coordinator.port}`;
    const federation = new Federation({ ...options, name, agents: [url, url, url], apps: [url] });
    coordinator.dataDir = join(federation.folder, 'coordinator');
    coordinator.onSurprise = (text) => federation.violations.push(`I2: ${text}`);
    const { random } = federation;
    const serveMs: number[] = [];
    const resumeMs: number[] = [];
    let kills = 0;
    const kill = async (): Promise<void> => {
      await coordinator.end('SIGKILL');
      kills += 1;
    };
    const revive = async (): Promise<void> => {
      const killedMs = performance.now();
      await coordinator.serving();
      serveMs.push(performance.now() - killedMs);
      resumeMs.push(await federation.recovers('SIGKILL of the coordinator', 1));
    };
    try {
      await coordinator.serving();
      await federation.begin(coordinator.port);
      await federation.harm({
        'SIGKILL while it trains': async () => {
          await pause(random.uniform() * LIFE_MS_MAX);
          await kill();
          await revive();
        },
        'SIGKILL while it starts': async () => {
          await kill();
          coordinator.start();
          await pause(random.uniform() * YOUNG_MS_MAX);
          await kill();
          await revive();
        },
        'SIGKILL of it and of an agent': async () => {
          await pause(random.uniform() * LIFE_MS_MAX);
          await kill();
          await federation.killAgent(federation.agents[random.integer(federation.agents.length)]!);
          await revive();
        },
      });
      await federation.end(coordinator.port);
      const code = await coordinator.end('SIGTERM');
      if (code !== 0) federation.violations.push(`I2: the coordinator ended with ${code} on SIGTERM`);
      return federation.report(await readFolder(coordinator.dataDir), {
        kills,
        ...quantilesOf('serve', serveMs),
        ...quantilesOf('resume', resumeMs),
      });
    } finally {
      await federation.close();
      await coordinator.end('SIGKILL');
    }
  },
};
