#!/usr/bin/env node
// A command that says what is on images, also without a network once it has run with one.
//   node examples/classify/classify.js IMAGE... [--model digits] [--channel latest] [--coordinator grpc://127.0.0.1:8443]
// It needs the package sharp, which reads the files.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { connect, InputError } from '@commonweight/client-sdk';
import { argumentsOf, orEnd } from '../arguments.js';

const { values, positionals } = argumentsOf(
  'classify IMAGE... [--model NAME] [--channel NAME] [--coordinator URL] [--cache FOLDER] [--json]',
  {
    model: { type: 'string', default: 'digits' },
    channel: { type: 'string', default: 'latest' },
    coordinator: { type: 'string', default: 'grpc://127.0.0.1:8443' },
    cache: { type: 'string', default: join(homedir(), '.cache', 'classify') },
    json: { type: 'boolean', default: false },
  },
  { positionalsMin: 1, positionalsMax: Infinity },
);

// A program that runs for a second has nothing to report.
const client = await orEnd(
  'classify',
  connect(values.coordinator, { cacheDir: values.cache, readyTimeoutMs: 10_000, reports: false }),
);
try {
  const model = await client.model(values.model, { channel: values.channel });
  const name = model.contract.inputs[0].name;
  const answers = await model.predictBatch(positionals.map((image) => ({ [name]: { image, fit: 'contain' } })));
  for (const [i, { outputs, version }] of answers.entries()) {
    const scores = Array.from(Object.values(outputs)[0].data);
    const best = scores.indexOf(Math.max(...scores));
    const sum = scores.reduce((total, score) => total + Math.exp(score - scores[best]), 0);
    const [file, share] = [positionals[i], 1 / sum];
    if (values.json) console.log(JSON.stringify({ file, class: best, share, version }));
    else console.log(`${file}: ${best} (${(100 * share).toFixed(0)} %), by version ${version}`);
  }
} catch (error) {
  console.error(`classify: ${error.message}`);
  process.exitCode = error instanceof InputError ? 2 : 1;
} finally {
  await client.close();
}
