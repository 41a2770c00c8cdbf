import type { Row } from './rows.ts';

export type WorkValue = string | number | Uint8Array;

/** A statement with a `?` for each value. */
export interface Statement {
  sql: string;
  values: readonly WorkValue[];
}

/**
 * What is done inside one transaction, a statement at a time: yields each and is given its rows. So one text serves an engine that answers
 * at once and one that answers later, and neither is let out of its transaction in between.
 */
export type Work<T> = Generator<Statement, T, Row[]>;

export const statement = (sql: string, ...values: WorkValue[]): Statement => ({ sql, values });

/** Does the work with an engine that answers at once. */
export function doneAtOnce<T>(work: Work<T>, run: (statement: Statement) => Row[]): T {
  let next = work.next();
  while (next.done !== true) next = work.next(run(next.value));
  return next.value;
}

/** Does the work with an engine that answers later. */
export async function doneInTurn<T>(work: Work<T>, run: (statement: Statement) => Promise<Row[]>): Promise<T> {
  let next = work.next();
  while (next.done !== true) next = work.next(await run(next.value));
  return next.value;
}
