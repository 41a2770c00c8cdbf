import { fromBinary } from '@bufbuild/protobuf';
import { CandidateSchema } from '@commonweight/proto';
import { digestsOfVersions, letGo } from './collect-work.ts';
import { bytesOf, type Row } from './rows.ts';
import { CANDIDATES_KEPT, type CandidateRecord, type ResultRecord } from './store.ts';
import { statement, type Work } from './work.ts';

/** Puts a candidate, or what was decided of it, and lets the weights go of those that are too many by now. */
export function* putCandidate(candidate: CandidateRecord): Work<void> {
  const { model, number, record, signature, isPending, isKept } = candidate;
  yield statement(
    `INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model, number) DO UPDATE SET
      record = excluded.record, signature = excluded.signature, pending = excluded.pending, kept = excluded.kept`,
    model,
    number,
    record,
    signature,
    Number(isPending),
    Number(isKept),
  );
  const old = yield statement(
    `SELECT number, record FROM candidates WHERE model = ? AND kept = 1 AND pending = 0
      ORDER BY number DESC LIMIT 1000 OFFSET ${CANDIDATES_KEPT}`,
    model,
  );
  if (old.length === 0) return;
  for (const row of old) {
    yield statement('UPDATE candidates SET kept = 0 WHERE model = ? AND number = ?', model, Number(row['number']));
  }
  const kept = yield statement('SELECT record FROM candidates WHERE kept = 1');
  const needed = new Set([...(yield* digestsOfVersions()), ...kept.flatMap(digestsOfCandidate)]);
  yield* letGo(new Set(old.flatMap(digestsOfCandidate).filter((id) => !needed.has(id))));
}

/** Digests of a candidate's weights and memory, in hexadecimal. */
export const digestsOfCandidate = (row: Row): string[] =>
  fromBinary(CandidateSchema, bytesOf(row, 'record')).artifacts.map(({ digest }) =>
    Buffer.from(digest).toString('hex'),
  );

export function* putResult({ task, round, model, record, signature }: ResultRecord): Work<void> {
  yield statement('INSERT INTO results VALUES (?, ?, ?, ?, ?)', task, round, model, record, signature);
}
