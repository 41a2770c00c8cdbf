/** Which GPUs a machine has, and by which drivers: speeds that were measured with one say nothing of another. */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { UNKNOWN_GPU } from './engines.ts';

/** Where a machine says what it has. */
export interface MachineFacts {
  platform: NodeJS.Platform;
  /** Of the operating system, whose part most drivers are. */
  release: string;
  environment: Readonly<Record<string, string | undefined>>;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): Promise<readonly string[]>;
  /** What a file holds; undefined where it cannot be read. */
  text(file: string): Promise<string | undefined>;
  /** What a program prints; undefined where there is no such program, or it fails. */
  printed(program: string, args: readonly string[]): Promise<string | undefined>;
}

/** All GPUs with their drivers, in words; `unknown gpu` where none says its name. */
export async function gpuNames(facts: MachineFacts): Promise<string> {
  const names = (await finders[facts.platform]?.(facts)) ?? [];
  const visible = facts.environment['CUDA_VISIBLE_DEVICES'];
  const among = visible === undefined ? '' : `, of which CUDA sees ${visible === '' ? 'none' : visible}`;
  return (names.length === 0 ? UNKNOWN_GPU : names.toSorted().join(' + ')) + among;
}

type Finder = (facts: MachineFacts) => Promise<readonly string[]>;

const finders: Partial<Record<NodeJS.Platform, Finder>> = { linux: onLinux, win32: onWindows, darwin: onMac };

async function onLinux(facts: MachineFacts): Promise<readonly string[]> {
  const loaded = await ofNvidiaModule(facts);
  // In WSL and in some containers only NVIDIA's own program knows.
  const nvidia = loaded.length > 0 ? loaded : await ofNvidiaProgram(facts);
  const others = await ofKernel(facts, nvidia.length > 0);
  return [...nvidia, ...others];
}

/** What NVIDIA's kernel module tells. */
async function ofNvidiaModule({ list, text }: MachineFacts): Promise<string[]> {
  const folder = '/proc/driver/nvidia';
  const driver = /\d{3,}\.\d[\d.]*/.exec((await text(`${folder}/version`)) ?? '')?.[0];
  const names: string[] = [];
  for (const place of await list(`${folder}/gpus`)) {
    const model = /^Model:\s*(.+)$/m.exec((await text(`${folder}/gpus/${place}/information`)) ?? '')?.[1];
    if (model !== undefined) names.push(withDriver(model.trim(), driver));
  }
  return names;
}

async function ofNvidiaProgram({ printed }: MachineFacts): Promise<string[]> {
  const lines = (await printed('nvidia-smi', ['--query-gpu=name,driver_version', '--format=csv,noheader'])) ?? '';
  return lines.split('\n').flatMap((line) => {
    const [, name, driver] = /^(.+), *(\d[\d.]*)\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [withDriver(name, driver)];
  });
}

const NVIDIA = '10de';

/** Cards by their PCI numbers: the kernel knows few names. */
async function ofKernel({ list, text, release: kernel }: MachineFacts, isNvidiaKnown: boolean): Promise<string[]> {
  const folder = '/sys/class/drm';
  const names: string[] = [];
  for (const card of (await list(folder)).filter((name) => /^card\d+$/.test(name))) {
    const read = async (file: string): Promise<string | undefined> =>
      (await text(`${folder}/${card}/device/${file}`))?.trim();
    const [vendor, device] = [(await read('vendor'))?.replace('0x', ''), (await read('device'))?.replace('0x', '')];
    if (vendor === undefined || device === undefined || (vendor === NVIDIA && isNvidiaKnown)) continue;
    const module = /^DRIVER=(.+)$/m.exec((await read('uevent')) ?? '')?.[1];
    const version = module === undefined ? undefined : (await text(`/sys/module/${module}/version`))?.trim();
    const product = (await read('product_name')) ?? '';
    names.push(
      withDriver(product === '' ? `PCI ${vendor}:${device}` : product, `${module ?? 'linux'} ${version ?? kernel}`),
    );
  }
  return names;
}

/** The class of display adapters in the registry. */
const ADAPTERS = String.raw`HKLM\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}`;

async function onWindows({ printed }: MachineFacts): Promise<string[]> {
  const valuesOf = async (value: string): Promise<Map<string, string>> => {
    const values = new Map<string, string>();
    let key = '';
    for (const line of ((await printed('reg', ['query', ADAPTERS, '/s', '/v', value])) ?? '').split(/\r?\n/)) {
      if (line.startsWith('HKEY')) key = line;
      const found = new RegExp(String.raw`^\s+${value}\s+REG_SZ\s+(.+)$`).exec(line)?.[1];
      if (found !== undefined) values.set(key, found.trim());
    }
    return values;
  };
  const [names, drivers] = [await valuesOf('DriverDesc'), await valuesOf('DriverVersion')];
  return [...names].map(([key, name]) => withDriver(name, drivers.get(key)));
}

async function onMac({ printed, release: kernel }: MachineFacts): Promise<string[]> {
  const text = (await printed('system_profiler', ['-json', 'SPDisplaysDataType'])) ?? '';
  return [...text.matchAll(/"sppci_model"\s*:\s*"([^"]+)"/g)].map(([, name]) => withDriver(name!, `Darwin ${kernel}`));
}

const withDriver = (name: string, driver: string | undefined): string =>
  driver === undefined ? name : `${name} (driver ${driver})`;

/** A program that tells of GPUs may wake them first. */
const PROGRAM_MS_MAX = 15_000;

const thisMachine: MachineFacts = {
  platform: process.platform,
  release: release(),
  environment: process.env,
  list: (folder) => readdir(folder).catch(() => []),
  text: (file) => readFile(file, 'utf8').catch(() => undefined),
  printed: (program, args) =>
    new Promise((resolve) => {
      execFile(program, args, { timeout: PROGRAM_MS_MAX, windowsHide: true }, (error, stdout) =>
        resolve(error === null ? stdout : undefined),
      );
    }),
};

let found: Promise<string> | undefined;

/** Those of this machine, found out once in a process. */
export const ownGpuNames = (): Promise<string> => (found ??= gpuNames(thisMachine));
