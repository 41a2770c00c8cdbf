// Makes a checkout ready to run: dependencies, kernels, build, a NATS server. Runs on any Node from 18 on, before there is
// anything else. It speaks on stderr only: stdout belongs to the command that follows.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'node_modules', '.bin');
const isWindows = process.platform === 'win32';
const say = (line) => process.stderr.write(`${line}\n`);
const digestOf = (...files) => {
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(join(root, file)));
  return hash.digest('hex');
};

/** Does a piece of work unless its stamp says that it was done for the same input. */
function once(stamp, digest, work) {
  const file = join(root, 'node_modules', stamp);
  if (existsSync(file) && readFileSync(file, 'utf8') === digest) return;
  work();
  writeFileSync(file, digest);
}

function run(what, command, args, mend, env = process.env) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env,
    shell: isWindows,
  });
  if (status === 0) return;
  const cause = error?.message ?? (signal === null ? `exit code ${status}` : signal);
  say(`setup: ${what} failed (${cause}): ${mend}`);
  process.exit(1);
}

// npm replaces node_modules, so it must not run on the Node that lies in there.
const path = (process.env.PATH ?? '').split(delimiter);
const outside = path.filter((folder) => !/node_modules[\\/]\.bin[\\/]?$|node-gyp-bin/.test(folder)).join(delimiter);
once('.commonweight-lock', digestOf('package-lock.json'), () => {
  say('installing the dependencies (npm ci)');
  const env = { ...process.env, PATH: outside };
  run(
    'npm ci',
    'npm',
    ['ci', '--loglevel=error'],
    'look at the lines above; without a network, set up an npm registry that can be reached',
    env,
  );
});

const inside = { ...process.env, PATH: [bin, outside].join(delimiter) };
const kernels = 'core/src/aggregation/kernels/assembly';
const kernelFiles = readdirSync(join(root, kernels))
  .sort()
  .map((file) => `${kernels}/${file}`);
once('.commonweight-kernels', digestOf(...kernelFiles, 'scripts/build-kernels.mjs'), () => {
  run(
    'building the kernels',
    join(bin, 'node'),
    ['scripts/build-kernels.mjs'],
    'mend core/src/aggregation/kernels',
    inside,
  );
});
run(
  'the build',
  join(bin, 'tsc'),
  ['-b'],
  'mend the errors above, or delete node_modules and the dist folders and try again',
  inside,
);
const nats = ['cli/dist/nats/install-main.js', ...process.argv.slice(2)];
run(
  'looking for a NATS server',
  join(bin, 'node'),
  ['--disable-warning=ExperimentalWarning', ...nats],
  'see the line above',
  inside,
);
if (process.argv.includes('--for-tests')) {
  for (const [what, file] of [
    ['PostgreSQL', 'install-postgres.ts'],
    ['Chromium', 'install-chromium.ts'],
  ]) {
    const flags = ['--disable-warning=ExperimentalWarning', `test/support/${file}`];
    run(`looking for ${what}`, join(bin, 'node'), flags, 'see the line above', inside);
  }
}
