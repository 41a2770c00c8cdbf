import { availableParallelism, totalmem } from 'node:os';
import { create } from '@bufbuild/protobuf';
import { CapabilitiesSchema, type Capabilities } from '@commonweight/proto';

/** What this device has, for tasks to choose by. */
export function capabilitiesOf(engine: string): Capabilities {
  // A container may have less than the machine; without a bound this is 0 or larger than what is there.
  const constrained = process.constrainedMemory();
  const bytes = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return create(CapabilitiesSchema, {
    engine,
    memoryMib: Math.floor(bytes / 2 ** 20),
    cores: availableParallelism(),
    platform: `${process.platform}-${process.arch}`,
  });
}
