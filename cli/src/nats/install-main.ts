// What scripts/setup.mjs runs after the build: makes sure of a NATS server before anything needs one.
import { startNatsContainer } from './container.ts';
import { ensureNatsBinary, NATS_MEND } from './provide.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const isForTests = process.argv.includes('--for-tests');
const isThere = (process.env['NATS_URL'] ?? '') !== '' || ensureNatsBinary(say) !== undefined;
// The demo finds out for itself and does without; tests may not.
if (!isThere && isForTests) {
  const container = await startNatsContainer();
  await container?.close();
  if (container === undefined) {
    say(`the tests need a NATS server and there is none: ${NATS_MEND}`);
    process.exitCode = 1;
  }
}
