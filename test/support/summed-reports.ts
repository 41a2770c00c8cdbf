import { invariant } from '../../core/src/errors.ts';
import { ExactSum } from '../../core/src/aggregation/exact-sum.ts';
import { seeded } from '../../core/src/random/stream.ts';
import { encodings } from '../../core/src/weights/encoding.ts';
import { reportGrid } from '../../core/src/measurement/report.ts';

/** The sum of some reports, as the coordinator makes it; for tests. */
export function summed(reports: readonly Float32Array[], length: number): BigInt64Array {
  const grid = reportGrid(1000);
  const sum = new ExactSum(length, grid);
  for (const report of reports) {
    const fault = sum.add('float32', encodings.float32.encode(report, grid, seeded('never drawn from')), 1);
    invariant(fault === undefined, 'a report is on its grid');
  }
  return sum.totals();
}
