// A batch job: rows of a CSV file, predicted on by several threads, each with a model of its own that stays on one version for its part.
//   node examples/batch/job.js ROWS.csv [--model digits] [--channel latest] [--coordinator grpc://127.0.0.1:8443] [--threads 2]
// Writes the class and the version of each row to standard output, in the order of the rows.
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'digits' },
    channel: { type: 'string', default: 'latest' },
    coordinator: { type: 'string', default: 'grpc://127.0.0.1:8443' },
    threads: { type: 'string', default: '2' },
  },
});
const [file] = positionals;
if (file === undefined) throw new Error('say which file: node examples/batch/job.js ROWS.csv');

const rows = (await readFile(file, 'utf8'))
  .trim()
  .split('\n')
  .map((line) => line.split(',').map(Number));
const threads = Math.min(Number(values.threads), rows.length);
const size = Math.ceil(rows.length / threads);

const parts = Array.from({ length: threads }, (_, i) => rows.slice(i * size, (i + 1) * size));
const answers = await Promise.all(
  parts.map(
    (part) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: { ...values, rows: part } });
        worker.once('message', resolve).once('error', reject);
      }),
  ),
);
for (const { version, classes } of answers) for (const one of classes) console.log(`${one},${version}`);
