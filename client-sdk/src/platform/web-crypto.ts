import { TrustError } from '../errors.ts';
import type { TrustCrypto } from './platform.ts';

/** A view that the types of WebCrypto take: none here is over shared memory. */
const plain = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => bytes as Uint8Array<ArrayBuffer>;

/** WebCrypto: Ed25519 is in Chrome 137, Firefox 129 and Safari 17. */
export const webCrypto: TrustCrypto = {
  sha256: async (bytes) => new Uint8Array(await crypto.subtle.digest('SHA-256', plain(bytes))),
  verifyEd25519: async (publicKey, message, signature) => {
    if (publicKey.length !== 32 || signature.length !== 64) return false;
    let key: Awaited<ReturnType<typeof crypto.subtle.importKey>>;
    try {
      key = await crypto.subtle.importKey('raw', plain(publicKey), 'Ed25519', false, ['verify']);
    } catch (cause) {
      throw new TrustError('this browser cannot verify Ed25519 signatures, or the key is none', { cause });
    }
    return await crypto.subtle.verify('Ed25519', key, plain(signature), plain(message));
  },
};
