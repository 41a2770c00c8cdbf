import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where a nats-server program lies, by PATH; Debian puts it where only root's PATH looks. */
export function findNatsServer(path: string = process.env['PATH'] ?? ''): string | undefined {
  const file = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';
  const folders = [...path.split(delimiter), '/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/opt/homebrew/bin'];
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, file))
    .find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
