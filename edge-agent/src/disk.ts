import { BlobCache, KeyPin, type Storage, type TrustCrypto } from '@commonweight/client-sdk';
import type { Manifest } from '@commonweight/proto';
import type { OwnName } from './local-round.ts';
import { refuseOlder } from './newest-base.ts';
import { Outbox } from './outbox/outbox.ts';
import { readVector, writeVector } from './vector-file.ts';

/** What of an agent outlives its process: a folder, a browser's database, or a simulator's. What a promise says is on the disk when it resolves. */
export interface AgentDisk {
  readonly outbox: Pick<Outbox, 'get' | 'put' | 'delete' | 'entries'>;
  readonly blobs: Pick<BlobCache, 'get' | 'has' | 'isOf' | 'put' | 'keepOnly'>;
  /** The coordinator's key. */
  readonly pin: KeyPin;
  /** What the last encoding of a task left over; undefined where there is none of that length. */
  residual(task: string, length: number): Promise<Float32Array | undefined>;
  keepResidual(task: string, residual: Float32Array): Promise<void>;
  /** What the agent keeps of a task to itself; undefined where there is none of that length. */
  own(task: string, name: OwnName, length: number): Promise<Float32Array | undefined>;
  keepOwn(task: string, name: OwnName, vector: Float32Array): Promise<void>;
  /** Notes the base version of a task. Throws TrustError where a newer one was seen before. */
  refuseOlder(task: string, base: Manifest): Promise<void>;
}

/** Opens an agent's files. A damaged update is set aside under another name and told. */
export async function openAgentFiles(
  storage: Storage,
  { sha256 }: Pick<TrustCrypto, 'sha256'>,
  onDamaged: (path: string) => void,
): Promise<AgentDisk> {
  const residualPath = (task: string): string => `residual-${task}.f32`;
  // A name of a task has no dot, so that no two files are one.
  const ownPath = (task: string, name: OwnName): string => `own-${task}.${name}.f32`;
  const place = { storage, sha256 };
  return {
    outbox: await Outbox.open({ ...place, folder: 'outbox' }, onDamaged),
    blobs: new BlobCache(storage, 'blobs', sha256),
    pin: await KeyPin.open({ storage, path: 'coordinator.key' }),
    residual: (task, length) => readVector(place, residualPath(task), length, onDamaged),
    keepResidual: (task, residual) => writeVector(place, residualPath(task), residual),
    own: (task, name, length) => readVector(place, ownPath(task, name), length, onDamaged),
    keepOwn: (task, name, vector) => writeVector(place, ownPath(task, name), vector),
    refuseOlder: (task, base) => refuseOlder(storage, task, base),
  };
}
