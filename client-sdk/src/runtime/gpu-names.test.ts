import { expect, test } from 'vitest';
import { gpuNames, ownGpuNames, type MachineFacts } from './gpu-names.ts';

/** A machine with these files, and these answers of programs. */
function machine(
  platform: NodeJS.Platform,
  files: Readonly<Record<string, string>>,
  programs: Readonly<Record<string, string>> = {},
  environment: Record<string, string> = {},
): MachineFacts {
  const paths = Object.keys(files);
  return {
    platform,
    release: '6.8.0',
    environment,
    list: (folder) => {
      const below = paths.filter((path) => path.startsWith(`${folder}/`));
      return Promise.resolve([...new Set(below.map((path) => path.slice(folder.length + 1).split('/')[0]!))]);
    },
    text: (file) => Promise.resolve(files[file]),
    printed: (program, args) => Promise.resolve(programs[[program, ...args.slice(-1)].join(' ')]),
  };
}

const NVIDIA = '/proc/driver/nvidia';
const information = (model: string): string =>
  `Model: \t\t ${model}\nIRQ:   \t\t 54\nGPU UUID: \t GPU-1\nBus Type: \t PCIe\n`;
const card = (index: number, vendor: string, device: string, driver: string): Record<string, string> => ({
  [`/sys/class/drm/card${index}/device/vendor`]: `0x${vendor}\n`,
  [`/sys/class/drm/card${index}/device/device`]: `0x${device}\n`,
  [`/sys/class/drm/card${index}/device/uevent`]: `DRIVER=${driver}\nPCI_CLASS=30000\n`,
  [`/sys/class/drm/card${index}-DP-1/status`]: 'connected\n',
});

const nvidia = (version: string): Record<string, string> => ({
  [`${NVIDIA}/version`]: version,
  [`${NVIDIA}/gpus/0000:01:00.0/information`]: information('NVIDIA H200'),
});

test('NVIDIA by its kernel module, open or not, with its driver', async () => {
  const closed =
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version: gcc 12.3.0\n';
  const open = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (root@host)\n';
  expect(await gpuNames(machine('linux', nvidia(closed)))).toBe('NVIDIA H200 (driver 535.129.03)');
  expect(await gpuNames(machine('linux', { ...nvidia(open), ...card(0, '10de', '2335', 'nvidia') }))).toBe(
    'NVIDIA H200 (driver 550.54.15)',
  );
});

test('several are all named, in one order', async () => {
  const second = { [`${NVIDIA}/gpus/0000:81:00.0/information`]: information('NVIDIA A2') };
  const files = { ...second, ...nvidia('Kernel Module  535.1'), ...card(1, '1002', '744c', 'amdgpu') };
  expect(await gpuNames(machine('linux', files, {}, { CUDA_VISIBLE_DEVICES: '1' }))).toBe(
    'NVIDIA A2 (driver 535.1) + NVIDIA H200 (driver 535.1) + PCI 1002:744c (driver amdgpu 6.8.0), of which CUDA sees 1',
  );
});

test('others by what the kernel knows', async () => {
  const named = {
    ...card(0, '1002', '740f', 'amdgpu'),
    '/sys/class/drm/card0/device/product_name': 'AMD INSTINCT MI210\n',
    '/sys/module/amdgpu/version': '6.7.0\n',
  };
  expect(await gpuNames(machine('linux', named))).toBe('AMD INSTINCT MI210 (driver amdgpu 6.7.0)');
  expect(await gpuNames(machine('linux', card(0, '8086', '56a0', 'i915')))).toBe('PCI 8086:56a0 (driver i915 6.8.0)');
});

test('in WSL and in containers by the program of NVIDIA', async () => {
  const programs = { 'nvidia-smi --format=csv,noheader': 'NVIDIA GeForce RTX 3080, 551.23\nNVIDIA A2, 551.23\n' };
  expect(await gpuNames(machine('linux', {}, programs))).toBe(
    'NVIDIA A2 (driver 551.23) + NVIDIA GeForce RTX 3080 (driver 551.23)',
  );
});

test('Windows by its registry', async () => {
  const key = String.raw`HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}\000`;
  const values = (name: string, ...each: readonly string[]): string =>
    each.map((value, index) => `\r\n${key}${index}\r\n    ${name}    REG_SZ    ${value}\r\n`).join('');
  const programs = {
    'reg DriverDesc': `${values('DriverDesc', 'AMD Radeon RX 6600', 'Intel(R) UHD Graphics 770')}\r\nEnd of search: 2 match(es) found.\r\n`,
    'reg DriverVersion': values('DriverVersion', '31.0.24027.1012', '31.0.101.4502'),
  };
  expect(await gpuNames(machine('win32', {}, programs))).toBe(
    'AMD Radeon RX 6600 (driver 31.0.24027.1012) + Intel(R) UHD Graphics 770 (driver 31.0.101.4502)',
  );
});

test('macOS by its profiler', async () => {
  const json = '{ "SPDisplaysDataType" : [ { "_name" : "kHW", "sppci_model" : "Apple M2 Pro" } ] }';
  expect(await gpuNames(machine('darwin', {}, { 'system_profiler SPDisplaysDataType': json }))).toBe(
    'Apple M2 Pro (driver Darwin 6.8.0)',
  );
});

test.each(['linux', 'win32', 'darwin', 'freebsd'] as const)(
  'a GPU of %s that does not say its name is unknown',
  async (platform) => {
    expect(await gpuNames(machine(platform, {}))).toBe('unknown gpu');
  },
);

test('this machine answers too, the same each time', async () => {
  const names = await ownGpuNames();
  expect(names).not.toBe('');
  expect(await ownGpuNames()).toBe(names);
});
