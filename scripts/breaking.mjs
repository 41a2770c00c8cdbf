// Compares the wire protocol with that of the last commit on main that has one: a change that breaks old clients fails.
import { spawnSync } from 'node:child_process';

const git = (...args) => spawnSync('git', args, { encoding: 'utf8' });
const base = ['origin/main', 'main', 'HEAD'].find(
  (ref) => git('cat-file', '-e', `${ref}:proto/commonweight/v1/agent.proto`).status === 0,
);
if (base === undefined) {
  console.log('breaking: skipped, no commit has the protocol yet');
  process.exit(0);
}
const commit = git('rev-parse', base).stdout.trim();
const { status } = spawnSync('buf', ['breaking', '--against', `.git#ref=${commit}`], { stdio: 'inherit' });
process.exit(status ?? 1);
