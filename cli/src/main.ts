#!/usr/bin/env node
if (Number.parseInt(process.versions.node) < 24) {
  // Said before anything is loaded that an older Node does not have.
  console.error(
    `commonweight: this is Node ${process.version} and 24 is needed: "npm run commonweight --" brings its own`,
  );
  process.exit(1);
}
// What a reader of our output no longer wants is no failure: `commonweight task list | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

// The gRPC library would print what we say ourselves; it reads this while it is loaded.
process.env['GRPC_VERBOSITY'] ??= 'NONE';
const { main } = await import('./run.ts');
process.exitCode = await main(process.argv.slice(2));
export {};
