import {
  equalBytes,
  needsFromWire,
  openVariantList,
  SignatureError,
  signedBytes,
  VariantState,
  type SignedVariantList,
  type VariantList,
} from '@commonweight/proto';
import type { ModelLink } from '../connection/model-link.ts';
import { TransportError, TrustError } from '../errors.ts';
import type { TrustCrypto } from '../platform/platform.ts';
import { isPublishable, type PublishedForms } from '../runtime/variant.ts';
import type { KeyPin } from '../trust/key-pin.ts';
import type { Release } from '../trust/release.ts';
import type { Variants } from './life.ts';

interface Sources {
  link: ModelLink;
  pin: KeyPin;
  crypto: TrustCrypto;
  /** Who is to choose: what that would not take is not fetched. */
  variants: Pick<Variants, 'isWanted' | 'isRun'>;
}

const NOTHING: PublishedForms = { forms: [], withheld: new Map() };

/**
 * The forms of a version that were measured and published, and those that lost too much. Where the coordinator cannot be asked there
 * are none: the version serves all the same. Throws TrustError where the answer is not to be believed.
 */
export async function publishedForms(
  release: Release,
  { link, pin, crypto, variants: chooser }: Sources,
): Promise<PublishedForms> {
  try {
    const signed = await link.getVariants?.(release.model, release.version);
    if (signed === undefined) return NOTHING;
    const { variants } = await opened(release, signed, pin, crypto);
    const withheld = variants.filter(({ state }) => state === VariantState.WITHHELD);
    const [forms, unfit] = [[] as PublishedForms['forms'][number][], [] as (PublishedForms['unfit'] & {})[number][]];
    for (const { name, state, why, digest, size, needs: said } of variants) {
      if (state !== VariantState.PUBLISHED || !isPublishable(name) || !chooser.isWanted(name)) continue;
      const needs = said === undefined ? undefined : needsFromWire(said);
      if (needs !== undefined && !chooser.isRun(needs)) unfit.push({ name, why, needs, bytes: Number(size) });
      else {
        const onnx = await link.download(digest, Number(size));
        forms.push({ name, why, onnx, ...(needs === undefined ? {} : { needs }) });
      }
    }
    return { forms, withheld: new Map(withheld.map(({ name, why }) => [name, why])), unfit };
  } catch (error) {
    if (error instanceof TransportError) return NOTHING;
    throw error;
  }
}

async function opened(
  { model, version, digest }: Release,
  signed: SignedVariantList,
  pin: KeyPin,
  { verifyEd25519 }: TrustCrypto,
): Promise<VariantList> {
  pin.check(signed.publicKey);
  const isGenuine = await verifyEd25519(signed.publicKey, signedBytes('VariantList', signed.list), signed.signature);
  let list: VariantList;
  try {
    list = openVariantList(signed, pin.key ?? signed.publicKey, () => isGenuine);
  } catch (cause) {
    if (!(cause instanceof SignatureError)) throw cause;
    throw new TrustError(`the forms of version ${version} of '${model}' were refused: ${cause.message}`, { cause });
  }
  const isOfRelease =
    list.model === model && list.version === BigInt(version) && equalBytes(list.manifestDigest, digest);
  if (!isOfRelease) throw new TrustError(`forms of another version were offered as those of ${version} of '${model}'`);
  return list;
}
