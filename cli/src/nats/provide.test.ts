import { afterEach, expect, test } from 'vitest';
import { answers } from './answers.ts';
import { freePort } from './free-port.ts';
import { provideNats } from './provide.ts';

const before = process.env['NATS_URL'];
afterEach(() => {
  if (before === undefined) delete process.env['NATS_URL'];
  else process.env['NATS_URL'] = before;
});

test('a server that is provided greets, and is gone once closed', async () => {
  const server = await provideNats(() => {});
  expect(server).toBeDefined();
  if (server === undefined) return;
  expect(await answers(server.url)).toBe(true);
  await server.close();
  if (server.how !== 'NATS_URL') expect(await answers(server.url)).toBe(false);
});

test('a NATS_URL where nobody answers is named', async () => {
  process.env['NATS_URL'] = `nats://127.0.0.1:${await freePort()}`;
  await expect(provideNats(() => {})).rejects.toThrow(`no NATS server answers at NATS_URL ${process.env['NATS_URL']}`);
});
