import { scoreNames, type ScoreName } from '@commonweight/core';
import { ServingError } from '../errors.ts';
import { IMPORTANCE_REPEATS_MAX } from '../limits.ts';
import type { ImportanceAnswer, ImportanceRequest } from '../protocol/explain.ts';
import { inputsOf, type HttpBody } from './codec.ts';
import { readJsonObject, requireKeys, wholeNumber } from './read-json.ts';

const KEYS = ['inputs', 'labels', 'score', 'repeats'];
const NO_BYTES = new Uint8Array();

/** Reads a table of which the columns are to be weighed. Throws ServingError. */
export function readImportanceRequest(body: Uint8Array): ImportanceRequest {
  const json = readJsonObject(body, { takesBinary: false });
  requireKeys(json, KEYS, 'an importance');
  const { inputs, labels, score = 'accuracy', repeats = 5 } = json;
  // 1e999 is a number of JSON, and infinite here.
  if (!Array.isArray(labels) || !labels.every(Number.isFinite)) {
    throw new ServingError('bad-request', '"labels" must be an array of finite numbers, one for each row');
  }
  if (!scoreNames.some((name) => name === score)) {
    throw new ServingError('bad-request', `"score" must be one of ${scoreNames.join(', ')}`);
  }
  return {
    inputs: inputsOf(inputs, NO_BYTES),
    labels: labels as number[],
    score: score as ScoreName,
    repeats: wholeNumber(repeats, 'repeats', 1, IMPORTANCE_REPEATS_MAX),
  };
}

/** Throws ServingError where JSON has no word for what was found. */
export function writeImportanceAnswer({ model, version, score, value, rows, columns }: ImportanceAnswer): HttpBody {
  if (![value, ...columns.flatMap(({ drop, spread }) => [drop, spread])].every(Number.isFinite)) {
    throw new ServingError(
      'not-finite',
      `the ${score} is ${value}, or becomes infinite when a column is shuffled: give inputs of a usual size`,
    );
  }
  const json = {
    model_name: model,
    model_version: String(version),
    method: 'permutation',
    score,
    value,
    rows,
    columns,
  };
  return { headers: { 'Content-Type': 'application/json' }, parts: [Buffer.from(JSON.stringify(json))] };
}
