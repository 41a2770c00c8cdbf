import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../../..');
const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
const SMALL = ['--model', 'logistic', '--clients', '6', '--fraction', '0.5'];

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `commonweight simulate`; `onLine` may send it a signal. */
function simulate(args: string[], onLine: (line: string, kill: () => void) => void = () => {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...FLAGS, join(root, 'cli/src/main.ts'), 'simulate', ...args]);
    let [stdout, stderr] = ['', ''];
    child.stderr.on('data', (text) => (stderr += String(text)));
    child.stdout.on('data', (text) => {
      stdout += String(text);
      onLine(String(text), () => child.kill('SIGINT'));
    });
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

const lines = ({ stdout }: Ended): Record<string, unknown>[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('a run says a line a round, and results.json what they came to', async () => {
  const out = mkdtempSync(join(tmpdir(), 'commonweight-simulate-'));
  const ended = await simulate([...SMALL, '--rounds', '2', '--json', '--out', out]);
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  const [one, two, results] = lines(ended);
  expect([one?.['round'], two?.['round'], results?.['event']]).toEqual([1, 2, 'results']);
  expect(two?.['accuracy']).toBeGreaterThan(0.7);
  const stored = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as { rounds: object[]; complete: boolean };
  expect(stored).toMatchObject({ complete: true, parameters: 7850, strategy: 'fedAvg' });
  expect(stored.rounds).toHaveLength(2);
  expect(readFileSync(join(out, 'rounds.csv'), 'utf8')).toMatch(/^round,accuracy,/);
});

test('Ctrl-C ends it within the round, and the same command goes on', async () => {
  const out = mkdtempSync(join(tmpdir(), 'commonweight-simulate-'));
  const args = [...SMALL, '--strategy', join(root, 'examples/server-nesterov.ts'), '--out', out];
  const cut = await simulate([...args, '--rounds', '100000'], (text, kill) => text.startsWith('round 2/') && kill());
  expect(cut.code).toBe(1);
  expect(cut.stderr).toMatch(/stopped after \d+ rounds; run the same command again to go on/);
  const state = JSON.parse(readFileSync(join(out, 'state.json'), 'utf8')) as { round: number };
  const rounds = String(state.round + 1);
  const ended = await simulate([...args, '--rounds', rounds]);
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  expect(ended.stdout).toMatch(new RegExp(`^round ${rounds}/${rounds}, `));
  expect(ended.stdout).toMatch(/serverNesterov@[0-9a-f]{12}: \d+ rounds of 3 of 6 clients/);
});

test.each([
  [['--strategy', 'fedMagic'], /strategy "fedMagic" is not known: use one of/],
  [['--strategy', './nowhere.ts'], /no strategy can be read there/],
  [['--attackers', '0.2'], /need --attack: choose one of/],
  [['--split', 'iid', '--alpha', '1'], /--alpha goes with --split dirichlet/],
  [['--data', 'mnist?partition=0/2'], /is dealt out by --split/],
  [['--strategy', 'krum', '--clients', '4'], /cohort.min is 4, and krum with these options needs 5 updates/],
])('%j is wrong usage', async (args, words) => {
  const { code, stderr } = await simulate(args);
  expect(code).toBe(2);
  expect(stderr).toMatch(words);
});

test('the help tells it from the simulator of crashes', async () => {
  const { stdout } = await simulate(['--help']);
  expect(stdout).toContain('`npm run simulate` in the sources is another thing');
});
