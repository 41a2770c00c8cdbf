// A batch job: rows of a CSV file, predicted on by several threads, each with a model of its own that stays on one version for its part.
//   node examples/batch/job.js ROWS.csv [--model digits] [--channel latest] [--coordinator grpc://127.0.0.1:8443] [--threads 2]
// Writes the class and the version of each row to standard output, in the order of the rows.
import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { argumentsOf, orEnd } from '../arguments.js';

const { values, positionals } = argumentsOf(
  'job.js ROWS.csv [--model NAME] [--channel NAME] [--coordinator URL] [--threads N]',
  {
    model: { type: 'string', default: 'digits' },
    channel: { type: 'string', default: 'latest' },
    coordinator: { type: 'string', default: 'grpc://127.0.0.1:8443' },
    threads: { type: 'string', default: '2' },
  },
  { positionalsMin: 1, positionalsMax: 1 },
);

const rows = (await orEnd('job', readFile(positionals[0], 'utf8')))
  .trim()
  .split('\n')
  .map((line) => line.split(',').map(Number));
const threads = Math.max(1, Math.min(Number(values.threads) || 1, rows.length));
const size = Math.ceil(rows.length / threads);

const parts = Array.from({ length: threads }, (_, i) => rows.slice(i * size, (i + 1) * size));
const predicted = (part) =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: { ...values, rows: part } });
    worker.once('message', resolve).once('error', reject);
  });
const answers = await orEnd('job', Promise.all(parts.map(predicted)));
for (const { version, classes } of answers) for (const one of classes) console.log(`${one},${version}`);
