import { basename, dirname } from 'node:path';
import { FolderStorage, nodePlatform } from '@commonweight/client-sdk';
import { openAgentFiles, type AgentDisk } from './disk.ts';
import { Outbox } from './outbox/outbox.ts';

/** An agent's files in a folder. */
export const openAgentDisk = (dataDir: string, onDamaged: (path: string) => void): Promise<AgentDisk> =>
  openAgentFiles(new FolderStorage(dataDir), nodePlatform.crypto, onDamaged);

/** The outbox of a folder alone. */
export const openOutbox = (folder: string, onDamaged: (path: string) => void): Promise<Outbox> =>
  Outbox.open(
    { storage: new FolderStorage(dirname(folder)), folder: basename(folder), sha256: nodePlatform.crypto.sha256 },
    onDamaged,
  );
