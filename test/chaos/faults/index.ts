import type { Section } from '../section.ts';
import { badLinks } from './bad-links.ts';
import { coordinatorKills } from './coordinator-kills.ts';
import { fullDisk } from './full-disk.ts';
import { natsCluster } from './nats-cluster.ts';
import { postgresKills, replicaKills, replicaPauses } from './replica-faults.ts';
import { soak } from './soak.ts';

/** Harm to processes, links and disks around a real federated task. */
export const faultSections: readonly Section[] = [
  coordinatorKills,
  replicaKills,
  replicaPauses,
  postgresKills,
  natsCluster,
  badLinks,
  fullDisk,
  soak,
];
