/** Quantizes a large model in a process of its own, so that its peak memory can be told. Prints one JSON object. */
import { quantizeModel, readModel, writeModel } from '@commonweight/core';
import { existsSync, readFileSync } from 'node:fs';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('give a model file');
const idleBytes = peakBytes();
const startMs = performance.now();
const bytes = readFileSync(file);
const quantized = writeModel(quantizeModel(readModel(bytes), 'dynamic-int8').model);
const seconds = (performance.now() - startMs) / 1000;
const endBytes = peakBytes();
const peakRatio = idleBytes === null || endBytes === null ? null : (endBytes - idleBytes) / bytes.length;
console.log(JSON.stringify({ seconds, peakRatio, sizeRatio: bytes.length / quantized.length }));

/** The kernel's own mark; what getrusage says begins with the parent's. Null where there is no such file. */
function peakBytes(): number | null {
  if (!existsSync('/proc/self/status')) return null;
  const [, kibibytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return kibibytes === undefined ? null : Number(kibibytes) * 1024;
}
