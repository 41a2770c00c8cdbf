import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes, signedBytes, type SignedKind, type VerifyEd25519 } from '@commonweight/proto';
import { StoreError } from '../store/store.ts';

export const SIGNING_KEY_FILE = 'signing-key.pem';
/** Raw bytes of an Ed25519 public key. */
const KEY_BYTES = 32;

/** Signs what the coordinator says. */
export interface Signer {
  /** Raw Ed25519 public key. */
  publicKey: Uint8Array;
  sign(kind: SignedKind, payload: Uint8Array): Uint8Array;
}

/** The signer of a data folder; the key is made when there is none. Throws StoreError where it cannot be read or written. */
export function openSigner(dataDir: string): Signer {
  const path = join(dataDir, SIGNING_KEY_FILE);
  const key = existsSync(path) ? readKey(path) : makeKey(path);
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return {
    publicKey: new Uint8Array(der.subarray(der.length - KEY_BYTES)),
    sign: (kind, payload) => sign(null, signedBytes(kind, payload), key),
  };
}

/** DER header of an Ed25519 public key: RFC 8410. */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** Verifies signatures of one raw Ed25519 public key. */
export function verifierOf(publicKey: Uint8Array): VerifyEd25519 {
  const key = createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' });
  return (signedBy, message, signature) => equalBytes(signedBy, publicKey) && verify(null, message, key, signature);
}

function readKey(path: string): KeyObject {
  try {
    return createPrivateKey(readFileSync(path));
  } catch (cause) {
    throw new StoreError(`cannot read the signing key ${path}: restore it from a backup; clients trust only this key`, {
      cause,
    });
  }
}

function makeKey(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ed25519');
  try {
    // A crash leaves no key or a whole one; what a crash left half written is written over.
    const temporary = `${path}.tmp`;
    writeFileSync(temporary, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flush: true });
    renameSync(temporary, path);
  } catch (cause) {
    throw new StoreError(`cannot write the signing key ${path}`, { cause });
  }
  return privateKey;
}
