import { resolve } from 'node:path';
import type { RelayFigures, RunningRelay } from '@commonweight/coordinator';
import { Option, type Command } from 'commander';
import { COORDINATOR_URL, coordinatorUrl, duration, RELAY_ADDRESS, reporting, whole } from '../output/arguments.ts';
import { standardOutput, type Output } from '../output/output.ts';
import { aborted, stopSignal, tellParent } from '../output/stop-signal.ts';

interface Options {
  coordinator: string;
  grpc: string;
  http?: string;
  dir: string;
  wait: number;
  cacheMax: number;
  spoolMax: number;
  json?: boolean;
}

/** How often it is said what the relay did, where that is something. */
const SAY_MS = 60_000;

export function addRelay(program: Command): void {
  reporting(program.command('relay'))
    .description('stand between the agents of a site and the coordinator: fold their updates, cache models')
    .option('--coordinator <url>', 'where the coordinator answers', coordinatorUrl('grpc'), COORDINATOR_URL)
    .option('--grpc <address>', 'where agents come: they are given this as their coordinator', RELAY_ADDRESS)
    .option('--http <address>', 'where health and metrics listen; without it nowhere')
    .option('--dir <dir>', 'folder of updates on their way, and of models', '.commonweight/relay')
    .addOption(
      new Option('--wait <time>', 'how long the first update of a part waits for others')
        .argParser(duration)
        .default(2_000, '2s'),
    )
    .option('--cache-max <MiB>', 'the most that models may take of its disk', whole(1, 2 ** 30), 4096)
    .option('--spool-max <MiB>', 'the most that updates may take of it', whole(1, 2 ** 30), 4096)
    .action(runRelay);
}

async function runRelay(options: Options): Promise<void> {
  const output = standardOutput(options);
  const signal = stopSignal();
  const dir = resolve(options.dir);
  const { coordinator, grpc, http, wait, cacheMax, spoolMax } = options;
  const { startRelay } = await import('@commonweight/coordinator');
  const running = await startRelay({
    coordinator,
    grpc,
    dir,
    waitMs: wait,
    cacheBytesMax: cacheMax * 2 ** 20,
    spoolBytesMax: spoolMax * 2 ** 20,
    log: (line) => output.say(line, { event: 'log', line }),
    ...(http === undefined ? {} : { http }),
  });
  const { grpcPort, httpPort } = running;
  const at = (address: string, port: number): string => `${address.replace(/:\d*$/, '')}:${port}`;
  const listening = {
    event: 'listening',
    grpc: at(grpc, grpcPort),
    http: http === undefined || httpPort === undefined ? null : at(http, httpPort),
    coordinator,
    dir,
  };
  tellParent({ ...listening, grpcPort, httpPort });
  output.say(
    [
      `relay        grpc://${listening.grpc}`,
      ...(listening.http === null ? [] : [`health       http://${listening.http}`]),
      `coordinator  ${coordinator}`,
      `data         ${dir}`,
    ].join('\n'),
    listening,
  );
  const stopSaying = sayNowAndAgain(running, output);
  try {
    await aborted(signal);
  } finally {
    stopSaying();
    output.say('ending', { event: 'ending' });
    await running.close();
    sayFigures(running.figures(), output);
  }
}

function sayNowAndAgain(running: RunningRelay, output: Output): () => void {
  let before = 0;
  const timer = setInterval(() => {
    const figures = running.figures();
    if (figures.updates === before) return;
    before = figures.updates;
    sayFigures(figures, output);
  }, SAY_MS);
  return () => clearInterval(timer);
}

function sayFigures(figures: RelayFigures, output: Output): void {
  const { agents, updates, bytesIn, bytesUp, parts, updatesInParts, single, kept } = figures;
  const saved = bytesIn === 0 ? '' : ` (${Math.round(100 * (1 - bytesUp / bytesIn))} % saved)`;
  output.say(
    [
      `${agents} agents; ${updates} updates, ${mib(bytesIn)} came and ${mib(bytesUp)} went up${saved}:`,
      `${updatesInParts} in ${parts} parts, ${single} alone, ${kept} have not ended;`,
      `models: ${mib(figures.blobBytesServed)} served, ${mib(figures.blobBytesFetched)} fetched`,
    ].join(' '),
    { event: 'figures', ...figures },
  );
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`;
