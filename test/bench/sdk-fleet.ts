import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { ManifestSchema } from '@commonweight/proto';
import { quantile } from '../chaos/quantiles.ts';
import { freePort } from '../support/free-port.ts';
import type { LoadApps } from '../support/load-apps.ts';
import { listening, program, sourceProgram, temporaryFolder, until, type Program } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';

const FULL = { apps: 1_000, versions: 10 };
const QUICK = { apps: 60, versions: 4 };
/** Versions whose swaps are not counted: code is compiled, and pages are touched for the first time. */
const WARM_UP = 2;
const PROCESSES = 4;
/** 198,760 parameters. */
const MODEL = { inputs: 784, hidden: [250], outputs: 10, seed: 1 };
const WAIT_MS = 300_000;

/**
 * A thousand apps in several processes, a third of them over each link, that follow one model: from the commit of a version to its serving in
 * each. CPU and memory are those of the process that the coordinator is in, which does nothing else; the baseline is before anybody came.
 */
export async function followedByMany(quick: boolean): Promise<Record<string, number>> {
  const { apps, versions } = quick ? QUICK : FULL;
  const folder = temporaryFolder('bench-sdk-fleet');
  const [grpc, http, natsPort, monitor] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const urls = [`grpc://127.0.0.1:${grpc}`, `nats://127.0.0.1:${natsPort}`, `http://127.0.0.1:${http}`];
  const programs: Program[] = [];
  const nats = program('nats-server', ['--addr', '127.0.0.1', '--port', `${natsPort}`, '--http_port', `${monitor}`]);
  programs.push(nats);
  try {
    await listening(natsPort, nats);
    const at = { grpc: `127.0.0.1:${grpc}`, http: `127.0.0.1:${http}`, nats: `nats://127.0.0.1:${natsPort}` };
    const coordinator = await startCoordinator({ dataDir: join(folder, 'coordinator'), ...at });
    try {
      const { service } = coordinator;
      await service.importModel('bench', writeModel(mlp(MODEL)));
      const before = { rss: process.memoryUsage.rss(), subscriptions: await subscriptionsAt(monitor) };
      for (let i = 0; i < PROCESSES; i++) {
        const load: LoadApps = { urls, apps: apps / PROCESSES, model: 'bench' };
        programs.push(sourceProgram('test/support/load-apps.ts', JSON.stringify(load)));
      }
      const fleet = programs.slice(1);
      const said = (): string => fleet.map((one) => one.output()).join('');
      await until('all apps to serve', WAIT_MS, () => fleet.every((one) => /^serving/m.test(one.output())), said);
      const connected = { rss: process.memoryUsage.rss(), subscriptions: await subscriptionsAt(monitor) };
      const committed = new Map<number, number>();
      const stop = service.watchReleases((_, { manifest }) => {
        committed.set(Number(fromBinary(ManifestSchema, manifest).version), performance.now());
      });
      let cpu = process.cpuUsage();
      for (let version = 2; version <= WARM_UP + versions + 1; version++) {
        if (version === WARM_UP + 2) cpu = process.cpuUsage();
        await publishNext(service, 'bench', 0.001);
        await until(`version ${version} in all apps`, WAIT_MS, () => servedIn(said(), version).length >= apps, said);
      }
      stop();
      const { user, system } = process.cpuUsage(cpu);
      const times = [...committed].flatMap(([version, atMs]) =>
        version <= WARM_UP + 1 ? [] : servedIn(said(), version).map((ms) => ms - performance.timeOrigin - atMs),
      );
      return {
        clients: apps,
        commit_to_active_p50_ms: quantile(times, 0.5),
        commit_to_active_p99_ms: quantile(times, 0.99),
        server_kib_per_client: (connected.rss - before.rss) / 1024 / apps,
        server_cpu_ms_per_client_version: (user + system) / 1000 / apps / versions,
        client_cpu_ms_per_version: fleet.reduce((sum, one) => sum + cpuOf(one.output(), versions), 0) / apps / versions,
        nats_subscriptions_per_client: (connected.subscriptions - before.subscriptions) / Math.ceil(apps / urls.length),
      };
    } finally {
      await coordinator.close();
    }
  } finally {
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** When each app came to serve a version, as milliseconds since 1970. */
const servedIn = (output: string, version: number): number[] =>
  [...output.matchAll(/^version (\d+) (\S+) \S+$/gm)]
    .filter(([, of]) => Number(of) === version)
    .map(([, , ms]) => Number(ms));

/** Milliseconds of CPU that a process of apps took for the versions that are counted. */
function cpuOf(output: string, versions: number): number {
  const until = (version: number): number => {
    const lines = [...output.matchAll(/^version (\d+) \S+ (\S+)$/gm)].filter(([, of]) => Number(of) === version);
    return Math.max(...lines.map(([, , ms]) => Number(ms)));
  };
  return until(WARM_UP + versions + 1) - until(WARM_UP + 1);
}

/** All that the NATS server keeps of its clients: there are no streams, no consumers and no mailboxes to list. */
async function subscriptionsAt(port: number): Promise<number> {
  const figures = (await (await fetch(`http://127.0.0.1:${port}/varz`)).json()) as { subscriptions: number };
  return figures.subscriptions;
}
