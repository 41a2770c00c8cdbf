import type { Storage } from '@commonweight/client-sdk';

/** Puts a damaged file where nobody reads it and a person finds it; answers where that is. */
export async function setAside(storage: Storage, path: string): Promise<string> {
  const aside = `${path}.damaged`;
  const bytes = await storage.read(path);
  if (bytes !== undefined) await storage.write(aside, bytes);
  await storage.remove(path);
  return storage.where(aside);
}
