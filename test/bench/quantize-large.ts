/** Quantizes a large model in a process of its own, so that its peak memory can be told. Prints one JSON object. */
import {
  calibrationGraph,
  quantizedForms,
  quantizeModel,
  readModel,
  writeModel,
  type QuantizedForm,
  type Range,
} from '@commonweight/core';
import { existsSync, readFileSync } from 'node:fs';

const [file, name] = process.argv.slice(2);
const form = quantizedForms.find((each) => each === name);
if (file === undefined || form === undefined) throw new Error('give a model file and the name of a form');
const idleBytes = peakBytes();
const startMs = performance.now();
const bytes = readFileSync(file);
const quantized = quantizedTo(form);
const seconds = (performance.now() - startMs) / 1000;
const endBytes = peakBytes();
const peakRatio = idleBytes === null || endBytes === null ? null : (endBytes - idleBytes) / bytes.length;
console.log(JSON.stringify({ seconds, peakRatio, sizeRatio: bytes.length / quantized.length }));

function quantizedTo(one: QuantizedForm): Uint8Array {
  const model = readModel(bytes);
  if (one !== 'static-int8') return writeModel(quantizeModel(model, one).model);
  // What they are changes nothing of the work; that they are there is calibration's business.
  const ranges = new Map<string, Range>(calibrationGraph(model).values.map((value) => [value, { min: -4, max: 4 }]));
  return writeModel(quantizeModel(model, one, { ranges }).model);
}

/** The kernel's own mark; what getrusage says begins with the parent's. Null where there is no such file. */
function peakBytes(): number | null {
  if (!existsSync('/proc/self/status')) return null;
  const [, kibibytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return kibibytes === undefined ? null : Number(kibibytes) * 1024;
}
