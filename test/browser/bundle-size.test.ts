import { expect, test } from 'vitest';
import { sdkSizes } from './build.ts';

/** Without the runtime, which is a worker and WebAssembly of its own. */
const START_BYTES_MAX = 60_000;

test('the SDK of a page is at most 60 kB after gzip, and NATS and explanations come only to who asks for them', async () => {
  const { start, nats, explain } = await sdkSizes();
  console.log(
    `browser SDK: ${(start / 1000).toFixed(1)} kB gzip to start, ${(nats / 1000).toFixed(1)} kB for NATS, ${(explain / 1000).toFixed(1)} kB to explain`,
  );
  expect(start).toBeLessThanOrEqual(START_BYTES_MAX);
  // Else the split is gone, and the first figure says nothing.
  expect(nats).toBeGreaterThan(20_000);
  expect(explain).toBeGreaterThan(5_000);
});
