import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { startCoordinator } from './main.ts';

const at = { grpc: '127.0.0.1:0', http: '127.0.0.1:0' };

test('pages of a named origin may read models, and what is no origin is refused by name', async () => {
  const dataDir = join(temporaryFolder('origins'), 'data');
  const running = await startCoordinator({ dataDir, ...at, origins: ['https://app.example'] });
  try {
    const ask = async (origin: string) => {
      const response = await fetch(`http://127.0.0.1:${running.httpPort}/v1/models/digits`, { headers: { origin } });
      return response.headers.get('access-control-allow-origin');
    };
    expect(await ask('https://app.example')).toBe('https://app.example');
    expect(await ask('https://other.example')).toBeNull();
  } finally {
    await running.close();
  }
  for (const origin of ['app.example', 'https://app.example/', 'https://app.example/page', 'file:///page']) {
    await expect(startCoordinator({ dataDir, ...at, origins: [origin] })).rejects.toThrow(
      `--http-origin ${origin} is not an origin`,
    );
  }
});
