import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['@commonweight/source'] },
  ssr: { resolve: { conditions: ['@commonweight/source', 'node'] } },
  test: {
    include: ['*/src/**/*.test.ts', 'test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Bounds of patience, not of speed: a machine may be busy with other work.
    testTimeout: 240_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
  },
});
