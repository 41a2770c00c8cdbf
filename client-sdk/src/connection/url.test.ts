import { expect, test } from 'vitest';
import { parseUrl, requireLoopback } from './url.ts';

test('an address has a kind, a host and a port', () => {
  expect(parseUrl('grpc://127.0.0.1:9000')).toEqual({ kind: 'grpc', host: '127.0.0.1', port: 9000 });
  expect(parseUrl('nats://localhost')).toEqual({ kind: 'nats', host: 'localhost', port: 4222 });
  expect(parseUrl('grpc://[::1]:7')).toEqual({ kind: 'grpc', host: '[::1]', port: 7 });
});

test.each(['http://127.0.0.1:1', 'grpc://', '127.0.0.1:9', 'grpc://127.0.0.1:99999', 'nats://a@b:1'])(
  '%s is not an address',
  (url) => expect(() => parseUrl(url)).toThrow(/is not a coordinator's address; write grpc:/),
);

test.each(['grpc://10.0.0.1:9000', 'nats://example.org:4222', 'grpc://127.0.0.1.example.org:1', 'grpc://0.0.0.0:1'])(
  '%s is refused because it is not on this machine',
  (url) => expect(() => requireLoopback(url)).toThrow(/identity and TLS come in a later version/),
);

test.each(['grpc://127.0.0.1:9', 'grpc://127.1.2.3:9', 'nats://localhost:4222', 'grpc://[::1]:9'])(
  '%s is taken',
  (url) => expect(() => requireLoopback(url)).not.toThrow(),
);
