// Loads models on one engine after the other, and says what came of it: the process that `probeLoading` starts.
import { InferenceSession } from 'onnxruntime-node';
import type { LoadEngine, LoadReport, ToLoadProbe } from './load-probe.ts';

interface Runtime {
  create(model: Uint8Array): Promise<{ release(): Promise<void> }>;
}

async function runtimeOf(engine: LoadEngine): Promise<Runtime> {
  if (engine !== 'web') {
    const executionProviders = engine === 'cpu' ? ['cpu'] : [engine, 'cpu'];
    return { create: (model) => InferenceSession.create(model, { executionProviders, logSeverityLevel: 4 }) };
  }
  const web = await import('onnxruntime-web');
  web.env.wasm.numThreads = 1;
  return {
    create: (model) => web.InferenceSession.create(model, { executionProviders: ['wasm'], logSeverityLevel: 4 }),
  };
}

async function faultOf(engine: LoadEngine, model: Uint8Array): Promise<string | undefined> {
  try {
    const session = await (await runtimeOf(engine)).create(model);
    await session.release();
    return undefined;
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_MODULE_NOT_FOUND') return 'the npm package onnxruntime-web is not here';
    // ONNX Runtime says first where in its source it was.
    const [first = ''] = message.split('\n');
    return first.replace(/^.*::.* was (?:false|true)\. /, '').slice(0, 300);
  }
}

process.once('message', ({ engines, models }: ToLoadProbe) => {
  void (async () => {
    for (const engine of engines) {
      const faults: Record<string, string | undefined> = {};
      for (const [name, model] of Object.entries(models)) faults[name] = await faultOf(engine, model);
      process.send?.({ engine, faults } satisfies LoadReport);
    }
  })();
});
process.on('disconnect', () => process.exit(0));
