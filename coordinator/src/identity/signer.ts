import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { signedBytes } from '@commonweight/proto';
import { StoreError } from '../store/store.ts';

const FILE_NAME = 'signing-key.pem';
/** Raw bytes of an Ed25519 public key. */
const KEY_BYTES = 32;

/** Signs what the coordinator says. */
export interface Signer {
  /** Raw Ed25519 public key. */
  publicKey: Uint8Array;
  sign(kind: 'Manifest' | 'Receipt', payload: Uint8Array): Uint8Array;
}

/** The signer of a data folder; the key is made when there is none. Throws StoreError where it cannot be read or written. */
export function openSigner(dataDir: string): Signer {
  const path = join(dataDir, FILE_NAME);
  const key = existsSync(path) ? readKey(path) : makeKey(path);
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return {
    publicKey: new Uint8Array(der.subarray(der.length - KEY_BYTES)),
    sign: (kind, payload) => sign(null, signedBytes(kind, payload), key),
  };
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
    writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx', flush: true });
  } catch (cause) {
    throw new StoreError(`cannot write the signing key ${path}`, { cause });
  }
  return privateKey;
}
