import { equalBytes } from '@commonweight/proto';
import { TrustError } from '../errors.ts';
import type { NamedVersion } from '../trust/channel.ts';
import { openRelease, type Release } from '../trust/release.ts';
import type { Life } from './life.ts';

/** The release that a channel names: on disk where it served before, else at the coordinator. Throws TrustError where that offers another. */
export async function releaseNamed(
  { cache, crypto, link, name, pin }: Life,
  { version, manifestDigest }: NamedVersion,
): Promise<Release> {
  for (const signed of await cache.load(version)) {
    if (!equalBytes(await crypto.sha256(signed.manifest), manifestDigest)) continue;
    return openRelease(name, signed, pin, crypto);
  }
  const release = await openRelease(name, await link.getModel(name, version), pin, crypto);
  if (release.version === version && equalBytes(release.digest, manifestDigest)) return release;
  throw new TrustError(`version ${version} of '${name}' was offered with another manifest than its channel names`);
}
