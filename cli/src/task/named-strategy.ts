import { loadStrategy } from '@commonweight/coordinator';

/** The name of a strategy that may be given as its file: a path, or what ends as one. */
export async function namedStrategy(given: string | undefined): Promise<{ strategy?: string }> {
  if (given === undefined) return {};
  if (!/[/\\]|\.[cm]?[jt]s$/.test(given)) return { strategy: given };
  return { strategy: (await loadStrategy(given)).name };
}
