/** Pieces of work after which others have their turn: signatures and messages of a fleet take some 50 µs each. */
const BATCH = 64;

/** Does something for each of maybe thousands; whatever else waits goes on between batches. `breathe` resolves when it had its turn. */
export async function inBatches<Item>(
  items: Iterable<Item>,
  work: (item: Item) => void,
  breathe: () => Promise<void>,
): Promise<void> {
  let done = 0;
  for (const item of items) {
    if (done > 0 && done % BATCH === 0) await breathe();
    work(item);
    done += 1;
  }
}
