import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** For NODE_OPTIONS: loads what knows the steps at which something becomes durable into a process. */
export const PRELOAD = `--import ${pathToFileURL(join(import.meta.dirname, 'preload.ts')).href}`;
