/** Quantizes 100 MB of weights in a process of its own, so that its peak memory can be told. Prints one JSON object. */
import { quantizeModel, readModel, writeModel } from '@commonweight/core';
import { readFileSync } from 'node:fs';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('give a model file');
const idleBytes = process.resourceUsage().maxRSS * 1024;
const startMs = performance.now();
const bytes = readFileSync(file);
const quantized = writeModel(quantizeModel(readModel(bytes), 'dynamic-int8').model);
const seconds = (performance.now() - startMs) / 1000;
const peakBytes = process.resourceUsage().maxRSS * 1024 - idleBytes;
console.log(
  JSON.stringify({ seconds, peakRatio: peakBytes / bytes.length, sizeRatio: bytes.length / quantized.length }),
);
