import { once } from 'node:events';
import { expect, test } from 'vitest';
import { engineNames } from '@commonweight/edge-agent';
import { commonweight } from '../../../test/support/processes.ts';
import { engines } from './agent-doctor.ts';

test('agent doctor measures the CPU and says of each other engine what is missing', async () => {
  expect(engines).toEqual(engineNames);
  const program = commonweight('agent', 'doctor', '--json');
  const [code] = (await once(program.child, 'exit')) as [number];
  const report = JSON.parse(program.output()) as { engines: { engine: string; works: boolean; why?: string }[] };
  expect(code).toBe(0);
  expect(report.engines.map(({ engine }) => engine)).toEqual(engineNames);
  expect(report.engines[0]).toMatchObject({ engine: 'ort-cpu', works: true });
  for (const { works, why } of report.engines) expect(works || why).toBeTruthy();
});
