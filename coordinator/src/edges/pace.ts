/** Pieces of work with a chunk (up to 512 KiB to copy, to hash or to fold) in one turn of the event loop. */
const PER_TURN = 4;

const waiting: (() => void)[] = [];

function go(): void {
  for (const begin of waiting.splice(0, PER_TURN)) begin();
  if (waiting.length > 0) setImmediate(go);
}

/**
 * Resolves when it is a chunk's turn, in order. When a thousand agents fetch or send at once, each has one ready at the same moment,
 * and without turns heartbeats would wait for all of them.
 */
export function chunkTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(go);
  });
}
