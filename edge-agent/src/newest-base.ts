import { Ratchet, TrustError, type Storage } from '@commonweight/client-sdk';
import type { Manifest } from '@commonweight/proto';

/**
 * Notes the base version that a task asks to train on; it is on the disk when this resolves. Throws TrustError where a newer
 * one was seen before, also by an agent that ran in this folder earlier: an old signed version stays signed for ever, and
 * training on it would undo what was learned since.
 */
export async function refuseOlder(storage: Storage, task: string, { model, version }: Manifest): Promise<void> {
  const place = { storage, path: `newest-${task}` };
  const newest = await Ratchet.open(place);
  try {
    newest.raise(model, Number(version));
  } catch (cause) {
    if (!(cause instanceof TrustError)) throw cause;
    const mend = `if the coordinator was set up anew on purpose, delete ${place.storage.where(place.path)}`;
    throw new TrustError(`${cause.message}; ${mend}`, { cause });
  }
  await newest.saved();
}
