import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['@commonweight/source'] },
  ssr: { resolve: { conditions: ['@commonweight/source', 'node'] } },
  test: {
    include: ['*/src/**/*.test.ts', 'test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
