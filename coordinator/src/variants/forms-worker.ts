/** Makes the forms of one version, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import {
  joinModel,
  needsOf,
  QuantizeError,
  quantizeModel,
  readModel,
  weightsFromBytes,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import { variantForms, type VariantForm } from './forms.ts';
import type { FormsJob, MadeForm } from './make-forms.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');
const { graph, weights, forms, ranges } = workerData as FormsJob;
const model = readModel(joinModel(readModel(graph), weightsFromBytes(weights)));
port.postMessage(forms.map((name) => attempt(model, name)));

function attempt(float32: ModelProto, name: VariantForm): MadeForm {
  try {
    const made = quantizeModel(float32, variantForms[name], ranges === undefined ? {} : { ranges }).model;
    return { name, onnx: writeModel(made), needs: needsOf(made) };
  } catch (error) {
    if (error instanceof QuantizeError) return { name, refused: error.message };
    throw error;
  }
}
