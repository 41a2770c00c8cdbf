import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { isCharging } from './power.ts';

/** A folder as the kernel shows it. */
function supplies(all: Record<string, Record<string, string>>): string {
  const folder = temporaryFolder('power');
  for (const [name, files] of Object.entries(all)) {
    mkdirSync(join(folder, name));
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, file), `${text}\n`);
  }
  return folder;
}

const mains = (online: string) => ({ type: 'Mains', online });
const battery = (status: string, scope?: string) => ({ type: 'Battery', status, ...(scope && { scope }) });

test.each<[string, Record<string, Record<string, string>>, boolean]>([
  ['a laptop on mains', { AC: mains('1'), BAT0: battery('Charging') }, true],
  ['a laptop on mains with a full battery', { AC: mains('1'), BAT0: battery('Full') }, true],
  ['a laptop on its battery', { AC: mains('0'), BAT0: battery('Discharging') }, false],
  ['a phone on USB', { usb: { type: 'USB', online: '1' }, battery: battery('Charging') }, true],
  ['a phone on its battery', { usb: { type: 'USB', online: '0' }, battery: battery('Discharging') }, false],
  ['a battery that is held where it is', { BAT0: battery('Not charging') }, true],
  ['a battery alone that discharges', { BAT0: battery('Discharging') }, false],
  ['a battery that says nothing', { BAT0: { type: 'Battery' } }, false],
  ['a server without a battery', {}, true],
  ["a server with a mouse's battery", { hid: battery('Discharging', 'Device') }, true],
])('%s', async (_, all, is) => {
  expect(await isCharging(supplies(all))).toBe(is);
});

test('where nobody tells it is not known', async () => {
  expect(await isCharging(join(temporaryFolder('power'), 'nothing'))).toBeUndefined();
});
