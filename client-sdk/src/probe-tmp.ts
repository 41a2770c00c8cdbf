import { startCoordinator } from '@commonweight/coordinator';
import { openModelLink } from '@commonweight/client-sdk';
import { logistic, writeModel } from '@commonweight/core';
import { mkdtempSync } from 'node:fs';
const opts = { dataDir: mkdtempSync('/tmp/cwp-'), grpc: '127.0.0.1:39471', http: '127.0.0.1:0' };
let c = await startCoordinator(opts);
await c.service.importModel('m', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
const link = openModelLink(`grpc://127.0.0.1:${c.grpcPort}`);
let t0 = Date.now();
const log = (...a: unknown[]) => console.log(Date.now() - t0, ...a);
link.watchModel(
  'm',
  () => log('release'),
  (e) => log('down', e.code, e.message),
);
await new Promise((r) => setTimeout(r, 500));
log('closing');
await c.close();
log('closed');
await new Promise((r) => setTimeout(r, 3000));
c = await startCoordinator(opts);
log('started');
await new Promise((r) => setTimeout(r, 6000));
log('closing');
await c.close();
log('closed');
await new Promise((r) => setTimeout(r, 4000));
await link.close();
log('end');
