#!/usr/bin/env node
import { main } from './run.ts';

// What a reader of our output no longer wants is no failure: `commonweight task list | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
process.exitCode = await main(process.argv.slice(2));
