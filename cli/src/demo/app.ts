// The demo's app: a process of its own that embeds the client SDK, predicts all the time in the form of each version
// that is fastest here, and measures each version that it serves on images no agent trains on.
import { connect, sleep, type Inputs, type Model } from '@commonweight/client-sdk';
import { exampleInputs, labelsOf, loadDataset } from '@commonweight/edge-agent';
import { stopSignal, tellParent } from '../output/stop-signal.ts';

const PREDICT_EVERY_MS = 25;
const REPORT_EVERY = 20;
const IMAGES_MAX = 2000;

const [url = '', name = '', data = ''] = process.argv.slice(2);
const signal = stopSignal();
const images = await loadDataset(data);
const shown = Array.from({ length: Math.min(images.examples, IMAGES_MAX) }, (_, index) => index);
const labels = labelsOf(images)!;
// What the app asked lately is what int8 forms are made and judged by.
const client = await connect(url, { variant: { choice: 'auto' } });
const model = await client.model(name);
let predictions = 0;
let failed = 0;

model.on('version', ({ to, reason }) => {
  const { name: variant, why, candidates } = model.variant;
  tellParent({ event: 'version', version: to, reason, variant, why, candidates });
  void measure();
});
model.on('superseded', ({ version }) => tellParent({ event: 'superseded', version }));
model.on('error', (error) => process.stderr.write(`${error.message}\n`));

while (!signal.aborted) {
  await predictOne(predictions % shown.length);
  if (predictions % REPORT_EVERY === 0) report();
  await sleep(PREDICT_EVERY_MS, signal);
}
report();
await client.close();
if (process.connected) process.disconnect();

function report(): void {
  tellParent({ event: 'predictions', predictions, failed });
}

async function predictOne(index: number): Promise<void> {
  predictions += 1;
  await ask(model, [index]);
}

/** Accuracy of the version that serves; all images go in one call, so one version answers for all. */
async function measure(): Promise<void> {
  const answer = await ask(model, shown);
  if (answer === undefined) return;
  const { values, version } = answer;
  const classes = values.length / shown.length;
  const right = shown.filter(
    (index) => largest(values.subarray(index * classes, (index + 1) * classes)) === labels[index],
  );
  tellParent({ event: 'accuracy', version, accuracy: right.length / shown.length });
}

async function ask(
  from: Model,
  indices: readonly number[],
): Promise<{ values: Float32Array; version: number } | undefined> {
  try {
    const { outputs, version } = await from.predict(inputsOf(from, indices));
    const [first] = Object.values(outputs);
    return { values: first?.data as Float32Array, version };
  } catch (error) {
    failed += 1;
    process.stderr.write(`${(error as Error).message}\n`);
    return undefined;
  }
}

function largest(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

function inputsOf({ contract }: Model, indices: readonly number[]): Inputs {
  return exampleInputs(images, contract?.inputs ?? [], indices);
}
