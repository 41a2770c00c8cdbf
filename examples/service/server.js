// A web service that answers with a live model. It takes requests while versions are swapped underneath, and tells what was right later.
//   node examples/service/server.js [--model digits] [--channel latest] [--coordinator grpc://127.0.0.1:8443] [--port 3000]
import { connect, InputError, ModelError } from '@commonweight/client-sdk';
import fastify from 'fastify';
import { argumentsOf, orEnd } from '../arguments.js';

const { values } = argumentsOf(
  'server.js [--model NAME] [--channel NAME] [--coordinator URL] [--port N] [--cache FOLDER]',
  {
    model: { type: 'string', default: 'digits' },
    channel: { type: 'string', default: 'latest' },
    coordinator: { type: 'string', default: 'grpc://127.0.0.1:8443' },
    port: { type: 'string', default: '3000' },
    cache: { type: 'string', default: '.commonweight/service' },
  },
);

const connecting = connect(values.coordinator, { cacheDir: values.cache, labels: { app: 'service' } });
const client = await orEnd('service', connecting);
const model = await orEnd('service', client.model(values.model, { channel: values.channel, feedback: true }));

const app = fastify({ logger: { level: 'warn' } });
model.on('version', ({ from, to, reason }) => app.log.warn(`version ${from ?? 'none'} -> ${to} (${reason})`));
model.on('error', (error) => app.log.warn(error.message));

app.get('/healthz', (_, reply) => {
  const { status, version } = model;
  return reply.code(version === undefined ? 503 : 200).send({ status, version });
});

app.post('/predict', async ({ body }) => {
  const { id, version, outputs } = await model.predict(body.inputs);
  const plain = Object.entries(outputs).map(([name, { data, dims }]) => [
    name,
    { dims, data: Array.from(data, Number) },
  ]);
  return { id, version, outputs: Object.fromEntries(plain) };
});

app.post('/feedback', async ({ body }, reply) => {
  await model.feedback(body.id, { label: body.label });
  return reply.code(204).send();
});

// What the caller gave is the caller's error; a model that is being swapped or has gone is ours.
app.setErrorHandler((error, _, reply) => {
  const code = error instanceof InputError ? 400 : error instanceof ModelError ? 409 : (error.statusCode ?? 500);
  return reply.code(code).send({ error: error.message });
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await app.close();
    await client.close();
  });
}
const address = await app.listen({ host: '127.0.0.1', port: Number(values.port) });
console.log(`listening on ${address}, ${values.model} version ${model.version}`);
