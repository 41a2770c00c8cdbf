import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where Linux tells of batteries and mains. Source: Documentation/ABI/testing/sysfs-class-power of the kernel. */
export const POWER_SUPPLY = '/sys/class/power_supply';

/** Whether the device takes power from outside; undefined where nobody says. A machine without a battery always does. */
export async function isCharging(folder: string = POWER_SUPPLY): Promise<boolean | undefined> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch {
    return undefined;
  }
  const supplies = await Promise.all(names.map((name) => supplyIn(join(folder, name))));
  // A mouse's battery is none of the device's.
  const own = supplies.filter(({ scope }) => scope !== 'Device');
  if (own.some(({ type, online }) => type !== 'Battery' && type !== 'UPS' && online === '1')) return true;
  const batteries = own.filter(({ type }) => type === 'Battery');
  if (batteries.length === 0) return !own.some(({ type, online }) => type === 'Mains' && online === '0');
  return batteries.some(({ status }) => status === 'Charging' || status === 'Full' || status === 'Not charging');
}

type Supply = Record<'type' | 'scope' | 'online' | 'status', string>;

async function supplyIn(folder: string): Promise<Supply> {
  const read = async (file: string): Promise<string> => {
    try {
      return (await readFile(join(folder, file), 'utf8')).trim();
    } catch {
      // Not every supply has every file, and one may be unplugged while it is read.
      return '';
    }
  };
  const [type = '', scope = '', online = '', status = ''] = await Promise.all(
    ['type', 'scope', 'online', 'status'].map(read),
  );
  return { type, scope, online, status };
}
