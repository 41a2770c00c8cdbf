import { expect, test } from 'vitest';
import { sdkSizes } from './build.ts';

/** Without the runtime, which is a worker and WebAssembly of its own. */
const START_BYTES_MAX = 60_000;

test('the SDK of a page is at most 60 kB after gzip, and NATS comes only to who asks for it', async () => {
  const { start, nats } = await sdkSizes();
  console.log(`browser SDK: ${(start / 1000).toFixed(1)} kB gzip to start, ${(nats / 1000).toFixed(1)} kB for NATS`);
  expect(start).toBeLessThanOrEqual(START_BYTES_MAX);
  // Else the split is gone, and the first figure says nothing.
  expect(nats).toBeGreaterThan(20_000);
});
