// Puts one large update after the other into the outbox of a folder and says the id of each that is kept, until it is killed.
import { create } from '@bufbuild/protobuf';
import { sha256 } from '../../client-sdk/src/index.ts';
import { openOutbox } from '../../edge-agent/src/folder-disk.ts';
import { UpdateHeaderSchema } from '../../proto/src/index.ts';

const [, , folder = ''] = process.argv;
const outbox = await openOutbox(folder, (path) => {
  throw new Error(`${path} is damaged`);
});
for (let round = 1; round <= 1000; round++) {
  const payload = new Uint8Array(8 * 1024 * 1024).fill(round);
  const payloadDigest = sha256(payload);
  const header = create(UpdateHeaderSchema, {
    updateId: payloadDigest,
    agentId: 'a',
    task: 't',
    round: BigInt(round),
    payloadDigest,
    payloadSize: BigInt(payload.length),
  });
  await outbox.put({ header, payload });
  process.send?.(Buffer.from(payloadDigest).toString('hex'));
}
