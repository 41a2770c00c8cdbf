// An app whose model changes all the time, until it is killed. Says each version that serves; keeps its folder and its keys
// over lives, as a device does.
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FolderStorage, nodePlatform, Ratchet } from '@commonweight/client-sdk';
import { logistic } from '@commonweight/core';
import { connectOn } from '../../client-sdk/src/client.ts';
import { MemoryLink } from './memory-link.ts';

const [folder = ''] = process.argv.slice(2);
const keyFile = join(folder, 'publisher-key.pem');
if (!existsSync(keyFile)) {
  writeFileSync(keyFile, generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }));
}
const link = new MemoryLink(readFileSync(keyFile));
const cacheDir = join(folder, 'cache');
const ratchet = await Ratchet.open({ storage: new FolderStorage(cacheDir), path: 'models/m/highest' });
let version = ratchet.highest;
const publish = (): void => {
  version += 1;
  link.publish(version, logistic({ inputs: 4, outputs: 3, seed: 1 }), (weights) => void weights.fill(version));
};
publish();
const client = await connectOn({ ...nodePlatform, openLink: () => link }, '', {
  cacheDir,
  probation: { probationMs: 5 },
});
const model = await client.model('m');
model.on('version', ({ to }) => {
  process.stdout.write(`serves ${to}\n`);
  if (to === version) publish();
});
await new Promise(() => setInterval(() => {}, 1000));
