import { parentPort, workerData } from 'node:worker_threads';
import { connect } from '@commonweight/client-sdk';

/** Rows of one run. */
const ROWS = 64;

const { coordinator, model: name, channel, rows } = workerData;
const client = await connect(coordinator);
const model = await client.model(name, { channel });
// All rows of this part by one version, whatever is published meanwhile.
const held = model.hold();
const classes = [];
for (let at = 0; at < rows.length; at += ROWS) {
  const [input] = model.contract.inputs;
  const { outputs } = await held.predict({ [input.name]: rows.slice(at, at + ROWS) });
  const { data, dims } = Object.values(outputs)[0];
  const width = dims.at(-1);
  for (let row = 0; row < data.length; row += width) {
    const scores = data.subarray(row, row + width);
    classes.push(scores.indexOf(Math.max(...scores)));
  }
}
held.release();
await client.close();
parentPort.postMessage({ version: held.version, classes });
