import { expect, test } from 'vitest';
import { parseUrl, requireLoopback } from './url.ts';

test('an address has a kind, a host and a port', () => {
  expect(parseUrl('grpc://127.0.0.1:9000')).toEqual({
    kind: 'grpc',
    addresses: [{ host: '127.0.0.1', port: 9000 }],
  });
  expect(parseUrl('nats://localhost')).toEqual({ kind: 'nats', addresses: [{ host: 'localhost', port: 4222 }] });
  expect(parseUrl('http://localhost:8080/')).toEqual({
    kind: 'http',
    addresses: [{ host: 'localhost', port: 8080 }],
  });
  expect(parseUrl('grpc://[::1]:7')).toEqual({ kind: 'grpc', addresses: [{ host: '[::1]', port: 7 }] });
});

test('an address may name several coordinators', () => {
  const addresses = [
    { host: '127.0.0.1', port: 1 },
    { host: '[::1]', port: 2 },
    { host: 'localhost', port: 8443 },
  ];
  expect(parseUrl('grpc://127.0.0.1:1,[::1]:2,localhost')).toEqual({ kind: 'grpc', addresses });
});

test.each([
  'https://127.0.0.1:1',
  'http://127.0.0.1:1/path',
  'http://127.0.0.1:1,127.0.0.1:2',
  'grpc://',
  '127.0.0.1:9',
  'grpc://127.0.0.1:99999',
  'nats://a@b:1',
  'grpc://a,',
  'grpc://a,b:1:2',
])('%s is not an address', (url) => expect(() => parseUrl(url)).toThrow(/is not a coordinator's address; write grpc:/));

test.each([
  'grpc://10.0.0.1:9000',
  'nats://example.org:4222',
  'grpc://127.0.0.1.example.org:1',
  'grpc://0.0.0.0:1',
  'grpc://127.0.0.1:1,10.0.0.1:1',
])('%s is refused because it is not on this machine', (url) =>
  expect(() => requireLoopback(url)).toThrow(/identity and TLS come in a later version/),
);

test.each(['grpc://127.0.0.1:9', 'grpc://127.1.2.3:9', 'nats://localhost:4222', 'grpc://[::1]:9'])(
  '%s is taken',
  (url) => expect(() => requireLoopback(url)).not.toThrow(),
);
