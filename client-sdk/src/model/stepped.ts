import { stepping } from '@commonweight/core';

/** Milliseconds of work before others get their turn. */
const TURN_MS = 8;

/** Weights one delta further. Large models take a while: an app has other things to do. Throws CodecError. */
export async function stepped(weights: Float32Array, delta: Uint8Array): Promise<Float32Array> {
  const work = stepping(weights, delta);
  let startMs = performance.now();
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
    if (performance.now() - startMs < TURN_MS) continue;
    await new Promise((resolve) => setTimeout(resolve));
    startMs = performance.now();
  }
}
