import { storeContract } from '../contract/store.ts';
import { Disk } from './disk.ts';

storeContract('the simulated disk', () => {
  const disk = new Disk();
  return async () => disk.open().store;
});
