import { join } from 'node:path';
import { findNatsServer } from '../../../cli/src/nats/find-binary.ts';
import { freePort } from '../../support/free-port.ts';
import { listening, natsServer, type Program } from '../../support/processes.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import type { Section } from '../section.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { canSample, measured, ProcessSamples } from './process-samples.ts';
import { readFolder } from './read-store.ts';
import type { Trend } from './trend.ts';

const SAMPLE_MS = 1_000;
const SHORT_SAMPLE_MS = 100;
const CALM_MS_MAX = 5_000;
const SHORT_CALM_MS_MAX = 300;
const HARM_MS_MAX = 1_000;
/** From this length on a trend says something, and one that is surely above the limit breaks I8. */
const JUDGED_FROM_MINUTES = 20;
const GROWTH_MIB_PER_HOUR_MAX = 1;
/** V8 compiles what is called now and then for an hour; code that is made anew with each version would be far more. */
const CODE_GROWTH_MIB_PER_HOUR_MAX = 4;
const FILES_GROWTH_MAX = 8;
/** Agents that live on. */
const LOOKED_AT = ['grpc_agent', 'nats_agent'] as const;
/** This process, with the apps in it: what it writes down of every update grows, so its memory is not judged. */
const RUNNER = 'runner';

/** Mixed harm around a coordinator, an agent and an app that live on: whether what they take stays the same. */
export const soak: Section = {
  name: 'soak',
  share: 32,
  lacks: async () => {
    if (findNatsServer() === undefined) return 'there is no nats-server: install it and put it on PATH';
    return canSample() ? undefined : 'this system has no /proc to read memory and open files from';
  },
  async run(options) {
    const { name } = soak;
    const natsPort = await freePort();
    let nats: Program = natsServer(natsPort);
    const coordinator = await CoordinatorProcess.at('--nats', `nats://127.0.0.1:${natsPort}`);
    const grpc = await TcpProxy.open(() => coordinator.port, { seed: options.seed });
    const link = await TcpProxy.open(natsPort, { seed: options.seed + 1 });
    const [grpcUrl, natsUrl] = [`grpc://127.0.0.1:${grpc.port}`, `nats://127.0.0.1:${link.port}`];
    const agents = [grpcUrl, natsUrl, grpcUrl, natsUrl];
    const federation = new Federation({
      ...options,
      name,
      agents,
      apps: [grpcUrl, natsUrl],
      task: { cohort: { min: 2, max: 4 } },
    });
    coordinator.dataDir = join(federation.folder, 'coordinator');
    coordinator.onSurprise = (text) => federation.violations.push(`I2: ${text}`);
    const memoryOf = (who: string): string => join(federation.folder, `memory of ${who}`);
    coordinator.env = measured(memoryOf('coordinator'));
    for (const [i, who] of LOOKED_AT.entries()) federation.agents[i]!.env = measured(memoryOf(who));
    const { random } = federation;
    const isLong = options.minutes >= 1;
    const rejections: string[] = [];
    const onRejection = (reason: unknown): void => void rejections.push(String((reason as Error).stack ?? reason));
    process.on('unhandledRejection', onRejection);
    const samples: ProcessSamples[] = [];
    const counts = { agent_kills: 0, resets: 0, nats_restarts: 0, app_restarts: 0, weathers: 0 };
    const calm = (): Promise<void> => pause(random.uniform() * (isLong ? CALM_MS_MAX : SHORT_CALM_MS_MAX));
    try {
      await listening(natsPort, nats);
      await coordinator.serving();
      await federation.begin(coordinator.port);
      const everyMs = isLong ? SAMPLE_MS : SHORT_SAMPLE_MS;
      for (const [who, pid] of [
        ['coordinator', coordinator.pid],
        ...LOOKED_AT.map((who, i) => [who, federation.agents[i]?.pid] as const),
        [RUNNER, process.pid],
      ] as const) {
        if (pid !== undefined) samples.push(new ProcessSamples(who, pid, everyMs, memoryOf(who)));
      }
      await federation.harm({
        'an agent is killed': async () => {
          await calm();
          // The first two live on: they are looked at.
          await federation.killAgent(federation.agents[2 + random.integer(2)]!);
          counts.agent_kills += 1;
        },
        'all connections are reset': async () => {
          await calm();
          counts.resets += grpc.reset() + link.reset();
        },
        'the NATS server is killed': async () => {
          await calm();
          await nats.end('SIGKILL');
          await pause(random.uniform() * HARM_MS_MAX);
          nats = natsServer(natsPort);
          await listening(natsPort, nats);
          counts.nats_restarts += 1;
        },
        'links are slow and late': async () => {
          await calm();
          for (const each of [grpc, link])
            each.weather = { latencyMs: 20, jitterMs: 40, pieceBytesMax: 500, bytesPerSecond: 50_000 };
          await pause(random.uniform() * HARM_MS_MAX);
          for (const each of [grpc, link]) each.weather = {};
          counts.weathers += 1;
        },
        'an app is started again': async () => {
          await calm();
          const app = federation.apps[random.integer(federation.apps.length)]!;
          await app.end();
          await app.start();
          counts.app_restarts += 1;
        },
      });
      for (const each of samples) each.stop();
      await federation.end(coordinator.port);
      const code = await coordinator.end('SIGTERM');
      if (code !== 0) federation.violations.push(`I2: the coordinator ended with ${code} on SIGTERM`);
      for (const rejection of rejections) federation.violations.push(`I8: an unhandled rejection: ${rejection}`);
      for (const each of samples) {
        const isJudged = options.minutes >= JUDGED_FROM_MINUTES && each.name !== RUNNER;
        for (const [what, trend, most] of [
          ['memory', each.rssTrend, GROWTH_MIB_PER_HOUR_MAX],
          ['memory in use', each.liveTrend, GROWTH_MIB_PER_HOUR_MAX],
          ['compiled code', each.codeTrend, CODE_GROWTH_MIB_PER_HOUR_MAX],
        ] as const) {
          if (!isJudged || trend === undefined || trend.least <= most) continue;
          const [slope, least] = [trend.slope.toFixed(1), trend.least.toFixed(1)];
          federation.violations.push(
            `I8: the ${what} of the ${each.name} grows by ${slope} MiB an hour, and surely by ${least}`,
          );
        }
        if (isLong && each.filesGrowth > FILES_GROWTH_MAX) {
          federation.violations.push(
            `I8: the ${each.name} opens files that it does not close: ${each.filesGrowth} more`,
          );
        }
      }
      const measured = samples.flatMap((each): [string, number][] => [
        // Over seconds a trend says nothing.
        ...(isLong ? trendFigures(`${each.name}_rss`, each.rssTrend) : []),
        ...(isLong && each.liveTrend !== undefined ? trendFigures(`${each.name}_live`, each.liveTrend) : []),
        ...(isLong && each.codeTrend !== undefined ? trendFigures(`${each.name}_code`, each.codeTrend) : []),
        [`${each.name}_rss_max_mib`, each.rssMaxMib],
        [`${each.name}_files_growth`, each.filesGrowth],
      ]);
      return federation.report(await readFolder(coordinator.dataDir), {
        ...counts,
        unhandled_rejections: rejections.length,
        ...Object.fromEntries(measured),
      });
    } finally {
      process.off('unhandledRejection', onRejection);
      for (const each of samples) each.stop();
      await federation.close();
      await coordinator.end('SIGKILL');
      await Promise.all([grpc.close(), link.close()]);
      await nats.end('SIGKILL');
    }
  },
};

const trendFigures = (name: string, { slope, least }: Trend): [string, number][] => [
  [`${name}_slope_mib_per_h`, slope],
  ...(Number.isFinite(least) ? [[`${name}_slope_least_mib_per_h`, least] as [string, number]] : []),
];
