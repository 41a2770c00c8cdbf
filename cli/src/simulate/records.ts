/** What is known of one round. Numbers that were not measured are null. */
export interface RoundRecord {
  round: number;
  /** Of the version that the round brought, on examples that no client has. */
  accuracy: number | null;
  testLoss: number | null;
  /** Mean training loss of the clients that are honest. */
  loss: number;
  updates: number;
  /** Updates that were refused, and those that a robust rule left out. */
  refused: number;
  leftOut: number;
  attackers: number;
  steps: number;
  totalWeight: number;
  /** Of all updates as they were sent, and of the weights that clients fetched. */
  payloadBytes: number;
  downloadBytes: number;
  seconds: number;
}

const COLUMNS: readonly (keyof RoundRecord)[] = [
  'round',
  'accuracy',
  'testLoss',
  'loss',
  'updates',
  'refused',
  'leftOut',
  'attackers',
  'steps',
  'totalWeight',
  'payloadBytes',
  'downloadBytes',
  'seconds',
];

export const csvOf = (records: readonly RoundRecord[]): string =>
  [COLUMNS.join(','), ...records.map((record) => COLUMNS.map((key) => record[key] ?? '').join(','))].join('\n') + '\n';

/**
 * The round in which a value is first reached by the running best, interpolated between measurements as the FedAvg paper counts; null
 * where it never is.
 */
export function roundsTo(target: number, records: readonly Pick<RoundRecord, 'round' | 'accuracy'>[]): number | null {
  let [round, best] = [0, 0];
  for (const record of records) {
    if (record.accuracy === null || record.accuracy <= best) continue;
    if (record.accuracy >= target) {
      return round + ((record.round - round) * (target - best)) / (record.accuracy - best);
    }
    [round, best] = [record.round, record.accuracy];
  }
  return null;
}
