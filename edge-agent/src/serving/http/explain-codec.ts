import { attributionMethods, type AttributionMethod } from '@commonweight/core';
import { ServingError } from '../errors.ts';
import { EXPLAIN_STEPS_MAX, TEXT_LENGTH_MAX } from '../limits.ts';
import { valuesToJson } from '../protocol/datatypes.ts';
import type { ExplainAnswer, ExplainRequest } from '../protocol/explain.ts';
import { inputsOf, type HttpBody } from './codec.ts';
import { readJsonObject, requireKeys, wholeNumber } from './read-json.ts';

const KEYS = ['inputs', 'method', 'steps', 'baseline', 'output', 'index'];
const NO_BYTES = new Uint8Array();

/** Reads what is to be explained, and how. Throws ServingError. */
export function readExplainRequest(body: Uint8Array): ExplainRequest {
  const json = readJsonObject(body, { takesBinary: false });
  requireKeys(json, KEYS, 'an explanation');
  const { inputs, method, steps, baseline, output, index } = json;
  if (method !== undefined && !attributionMethods.some((name) => name === method)) {
    throw new ServingError('bad-request', `"method" must be one of ${attributionMethods.join(', ')}`);
  }
  if (output !== undefined && (typeof output !== 'string' || output.length > TEXT_LENGTH_MAX)) {
    throw new ServingError('bad-request', '"output" must be the name of an output');
  }
  const tensors = inputsOf(inputs, NO_BYTES);
  return {
    inputs: tensors,
    ...(method === undefined ? {} : { method: method as AttributionMethod }),
    ...(output === undefined ? {} : { output }),
    ...(steps === undefined ? {} : { steps: wholeNumber(steps, 'steps', 1, EXPLAIN_STEPS_MAX) }),
    ...(index === undefined ? {} : { index: wholeNumber(index, 'index', 0, Number.MAX_SAFE_INTEGER) }),
    ...(baseline === undefined ? {} : { baseline: baselineOf(baseline) }),
  };
}

function baselineOf(json: unknown): NonNullable<ExplainRequest['baseline']> {
  if (typeof json === 'number') return json;
  if (Array.isArray(json)) return inputsOf(json, NO_BYTES);
  throw new ServingError('bad-request', '"baseline" is a number, or one example in the form of "inputs"');
}

export function writeExplainAnswer(answer: ExplainAnswer): HttpBody {
  const { model, version, method, steps, output, rows, attributions } = answer;
  const broken = rows.find((row) => !Object.values(row).every(Number.isFinite));
  if (broken !== undefined) {
    throw new ServingError(
      'not-finite',
      `the model's answer is ${broken.value}, and ${broken.baselineValue} to the baseline`,
    );
  }
  const json = {
    model_name: model,
    model_version: String(version),
    method,
    steps,
    output,
    explained: rows.map(({ index, value, baselineValue, gap }) => ({
      index,
      value,
      baseline_value: baselineValue,
      gap,
    })),
    attributions: Object.entries(attributions).map(([name, { data, dims }]) => ({
      name,
      datatype: 'FP32',
      shape: dims,
      data: valuesToJson({ datatype: 'FP32', shape: dims, data }, `the attribution of '${name}'`, 'another baseline'),
    })),
  };
  return { headers: { 'Content-Type': 'application/json' }, parts: [Buffer.from(JSON.stringify(json))] };
}
