import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../support/processes.ts';
import { quantilesOf } from '../quantiles.ts';
import type { Section } from '../section.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { pause } from './pause.ts';
import { readFolder } from './read-store.ts';
import { mountSmallDisk } from './small-disk.ts';

const DISK_MIB = 16;
const PAGE_BYTES = 4096;
/** A database that may take one MiB is full after some versions of this model. */
const LIMITED_MIB = 1;
/** Room for the end of the run, in which nothing is to be full. */
const CALM_MIB = 64;
const FULL_WITHIN_MS = 60_000;
const FULL_MS_MAX = 3_000;
const LIFE_MS_MAX = 1_000;

/**
 * The disk of a coordinator is full again and again while it trains. Where this machine mounts no disk of a few MiB, the limit of
 * `--disk-max` takes its place, and a restart with a higher one is what makes room.
 */
export const fullDisk: Section = {
  name: 'full-disk',
  share: 2,
  lacks: async () => undefined,
  async run(options) {
    const { name } = fullDisk;
    const folder = Federation.folderOf(name);
    const dataDir = join(folder, 'coordinator');
    const disk = mountSmallDisk(dataDir, DISK_MIB);
    options.log(
      `${name}: ${disk === undefined ? 'no disk can be mounted here: --disk-max' : `a disk of ${DISK_MIB} MiB`}`,
    );
    const coordinator = await CoordinatorProcess.at();
    coordinator.dataDir = dataDir;
    const url = `grpc://127.0.0.1:${coordinator.port}`;
    const federation = new Federation({ ...options, name, folder, agents: [url, url, url], apps: [url] });
    coordinator.onSurprise = (text) => federation.violations.push(`I2: ${text}`);
    const { random } = federation;
    const resumeMs: number[] = [];
    let fills = 0;
    const saysFull = (): number => coordinator.output().split(/(?:disk|database).*full/i).length - 1;
    const full = async (before: number): Promise<void> => {
      await until('the disk to be full', FULL_WITHIN_MS, () => saysFull() > before, coordinator.output);
      fills += 1;
      await pause(random.uniform() * FULL_MS_MAX);
    };
    const recovers = async (): Promise<void> => {
      resumeMs.push(await federation.recovers('a full disk', 1));
    };
    const ballast = join(dataDir, 'ballast');
    const fillDisk = async (): Promise<void> => {
      await pause(random.uniform() * LIFE_MS_MAX);
      const before = saysFull();
      fill(ballast);
      await full(before);
    };
    try {
      let limitMib = LIMITED_MIB;
      const limit = (): void => void (coordinator.args = disk === undefined ? ['--disk-max', String(limitMib)] : []);
      limit();
      await coordinator.serving();
      await federation.begin(coordinator.port);
      const onDisk = {
        'a full disk that gets room': async () => {
          await fillDisk();
          rmSync(ballast);
          await recovers();
        },
        'SIGKILL on a full disk': async () => {
          await fillDisk();
          await coordinator.end('SIGKILL');
          rmSync(ballast);
          await coordinator.serving();
          await recovers();
        },
      };
      const onLimit = {
        'a full database that may take more': async () => {
          await full(0);
          await coordinator.end(random.uniform() < 0.5 ? 'SIGKILL' : 'SIGTERM');
          limitMib += LIMITED_MIB;
          limit();
          await coordinator.serving();
          await recovers();
        },
      };
      await federation.harm(disk === undefined ? onLimit : onDisk);
      if (disk === undefined) {
        await coordinator.end('SIGTERM');
        limitMib += CALM_MIB;
        limit();
        await coordinator.serving();
      }
      await federation.end(coordinator.port);
      const code = await coordinator.end('SIGTERM');
      if (code !== 0) federation.violations.push(`I2: the coordinator ended with ${code} on SIGTERM`);
      return federation.report(await readFolder(dataDir), {
        fills,
        real_disk: disk === undefined ? 0 : 1,
        ...quantilesOf('resume', resumeMs),
      });
    } finally {
      await federation.close();
      await coordinator.end('SIGKILL');
      disk?.unmount();
    }
  },
};

/** Takes all the room there is, in pieces that get smaller. */
function fill(file: string): void {
  for (let bytes = 2 ** 20; bytes >= PAGE_BYTES;) {
    try {
      writeFileSync(file, Buffer.alloc(bytes), { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      bytes /= 2;
    }
  }
}
