import { generateKeyPairSync, sign } from 'node:crypto';
import { signedBytes } from '@commonweight/proto';
import type { Signer } from '../../coordinator/src/identity/signer.ts';

export function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)),
    sign: (kind, payload) => sign(null, signedBytes(kind, payload), privateKey),
  };
}
