import { sha256, verifyEd25519, type ModelLink } from '@commonweight/client-sdk';
import { equalBytes, openVariantList, VariantState, type Manifest, type SignedManifest } from '@commonweight/proto';
import { CommandError } from '../output/failure.ts';

/**
 * The ONNX file of a published form of a version, its digest checked. Throws CommandError that names the forms that there are, and
 * what keeps one from being published.
 */
export async function fetchForm(
  link: ModelLink,
  signed: SignedManifest,
  { model, version }: Manifest,
  form: string,
): Promise<Uint8Array> {
  const answer = await link.getVariants?.(model, Number(version));
  const list = answer === undefined ? undefined : openVariantList(answer, signed.publicKey, verifyEd25519);
  const isOfVersion =
    list === undefined ||
    (list.model === model && list.version === version && equalBytes(list.manifestDigest, sha256(signed.manifest)));
  if (!isOfVersion) throw new CommandError(`the coordinator answered with forms of another version than ${version}`);
  const forms = list?.variants ?? [];
  const found = forms.find(({ name }) => name === form);
  const published = forms.filter(({ state }) => state === VariantState.PUBLISHED).map(({ name }) => name);
  const others = `published are ${['fp32', ...published].join(', ')}`;
  const subject = `form ${form} of ${model} version ${version}`;
  switch (found?.state) {
    case VariantState.PUBLISHED:
      return await link.download(found.digest, Number(found.size));
    case VariantState.MADE:
      throw new CommandError(
        `${subject} was not measured yet, so it is not published; ${others}: \`model variants ${model}@${version} --measure\` measures it`,
      );
    case VariantState.WITHHELD:
    case VariantState.REFUSED:
      throw new CommandError(`${subject} is not published: ${found.why}; ${others}`);
    default:
      throw new CommandError(
        `there is no ${subject}; ${others}: \`model variants ${model}@${version} --make\` has more made, \`model quantize\` makes any of a file`,
      );
  }
}
