import { join } from 'node:path';
import { findNatsServer } from '../../../cli/src/nats/find-binary.ts';
import { freePort } from '../../support/free-port.ts';
import { NatsRelay } from '../../support/nats-relay.ts';
import { listening, natsServer } from '../../support/processes.ts';
import { TcpProxy, type Weather } from '../../support/tcp-proxy.ts';
import { quantilesOf } from '../quantiles.ts';
import type { Section } from '../section.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { readFolder } from './read-store.ts';

/** How long one weather holds. */
const WEATHER_MS_MIN = 500;
const WEATHER_MS_MAX = 1_500;
/** Where there is time, up to beyond the 15 s after which a silent link is given up. */
const LONG_WEATHER_MS_MAX = 20_000;
const LONG_WEATHERS_FROM_MINUTES = 1;

const WEATHERS: Readonly<Record<string, Weather>> = {
  'late, in pieces': { latencyMs: 40, jitterMs: 80, pieceBytesMax: 300 },
  slow: { bytesPerSecond: 8_000, latencyMs: 20 },
  resets: { resets: 0.05, pieceBytesMax: 2_000 },
  'damaged bytes': { damage: 0.05, pieceBytesMax: 2_000 },
};

/** Agents and apps over gRPC and NATS, whose every connection, the coordinator's to NATS as well, leads through links that fail. */
export const badLinks: Section = {
  name: 'bad-links',
  share: 4,
  lacks: async () =>
    findNatsServer() === undefined ? 'there is no nats-server: install it and put it on PATH' : undefined,
  async run(options) {
    const { name } = badLinks;
    const [natsPort, farPort] = [await freePort(), await freePort()];
    const [nats, far] = [natsServer(natsPort), natsServer(farPort)];
    const closers: (() => Promise<unknown>)[] = [() => nats.end('SIGKILL'), () => far.end('SIGKILL')];
    try {
      await Promise.all([listening(natsPort, nats), listening(farPort, far)]);
      const seed = options.seed;
      const links = {
        'the coordinator to NATS': await TcpProxy.open(natsPort, { seed }),
        'agents and apps to NATS': await TcpProxy.open(natsPort, { seed: seed + 1 }),
        'agents and apps to gRPC': await TcpProxy.open(() => coordinator.port, { seed: seed + 2 }),
      };
      const [fromCoordinator, toNats, toGrpc] = Object.values(links) as [TcpProxy, TcpProxy, TcpProxy];
      for (const link of Object.values(links)) closers.push(() => link.close());
      const coordinator = await CoordinatorProcess.at('--nats', `nats://127.0.0.1:${fromCoordinator.port}`);
      const [grpcUrl, natsUrl] = [`grpc://127.0.0.1:${toGrpc.port}`, `nats://127.0.0.1:${toNats.port}`];
      // One more agent behind a relay that loses, doubles and reorders whole messages.
      const agents = [grpcUrl, grpcUrl, natsUrl, `nats://127.0.0.1:${farPort}`];
      const federation = new Federation({
        ...options,
        name,
        agents,
        apps: [grpcUrl, natsUrl],
        task: { cohort: { min: 2, max: 4 } },
      });
      closers.push(
        () => federation.close(),
        () => coordinator.end('SIGKILL'),
      );
      coordinator.dataDir = join(federation.folder, 'coordinator');
      coordinator.onSurprise = (text) => federation.violations.push(`I2: ${text}`);
      const { random } = federation;
      const weatherMsMax = options.minutes >= LONG_WEATHERS_FROM_MINUTES ? LONG_WEATHER_MS_MAX : WEATHER_MS_MAX;
      const resumeMs: number[] = [];
      await coordinator.serving();
      const relay = await NatsRelay.open(`nats://127.0.0.1:${farPort}`, `nats://127.0.0.1:${natsPort}`, seed);
      closers.push(() => relay.close());
      await federation.begin(coordinator.port);
      relay.weather = { loss: 0.05, double: 0.2, delayMsMax: 100 };
      const during = async (
        what: string,
        begin: (link: TcpProxy) => void,
        end: (link: TcpProxy) => void,
      ): Promise<void> => {
        // One link or all of them.
        const all = Object.values(links);
        const hit = random.uniform() < 0.5 ? all : [all[random.integer(all.length)]!];
        for (const link of hit) begin(link);
        await pause(WEATHER_MS_MIN + random.uniform() * (weatherMsMax - WEATHER_MS_MIN));
        for (const link of hit) end(link);
        resumeMs.push(await federation.recovers(what, 1));
      };
      const weathers = Object.entries(WEATHERS).map(([what, weather]) => [
        what,
        () =>
          during(
            what,
            (link) => (link.weather = weather),
            (link) => (link.weather = {}),
          ),
      ]);
      await federation.harm({
        ...(Object.fromEntries(weathers) as Record<string, () => Promise<void>>),
        'half-open': () =>
          during(
            'a half-open link',
            (link) => {
              const way = random.integer(3);
              if (way !== 0) link.swallowed.add('up');
              if (way !== 1) link.swallowed.add('down');
            },
            (link) => {
              link.swallowed.clear();
              // Of what was swallowed the rest makes no sense: such a link ends at last.
              link.reset();
            },
          ),
        frozen: () =>
          during(
            'a frozen link',
            (link) => link.freeze(),
            (link) => link.thaw(),
          ),
        'away at once': () =>
          during(
            'a link that was away',
            (link) => {
              link.refuses = true;
              link.reset();
            },
            (link) => (link.refuses = false),
          ),
      });
      relay.weather = {};
      await federation.end(coordinator.port);
      const code = await coordinator.end('SIGTERM');
      if (code !== 0) federation.violations.push(`I2: the coordinator ended with ${code} on SIGTERM`);
      return federation.report(await readFolder(coordinator.dataDir), {
        resets: Object.values(links).reduce((sum, link) => sum + link.resets, 0),
        messages_doubled: relay.counts.doubled,
        messages_lost: relay.counts.lost,
        ...quantilesOf('resume', resumeMs),
      });
    } finally {
      for (const close of closers.toReversed()) await close();
    }
  },
};
