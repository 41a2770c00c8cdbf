/** Runs a small model on the CPU and by an engine, and tells its parent whether the answers agree. */
import { mlp, writeModel } from '@commonweight/core';
import { InferenceSession, listSupportedBackends, Tensor } from 'onnxruntime-node';
import { providersOf, type FromProbe } from './engine-probe.ts';
import type { EngineName } from './engine.ts';

const INPUTS = 64;
/** A GPU may add in another order, and with fewer bits. */
const DIFFERENCE_MAX = 0.01;

async function answersOf(engine: EngineName): Promise<Float32Array> {
  const onnx = writeModel(mlp({ inputs: INPUTS, hidden: [64], outputs: 16, seed: 1 }));
  const session = await InferenceSession.create(onnx, { executionProviders: providersOf(engine), logSeverityLevel: 4 });
  const input = Float32Array.from({ length: 4 * INPUTS }, (_, index) => Math.sin(index));
  const results = await session.run({ [session.inputNames[0]!]: new Tensor('float32', input, [4, INPUTS]) });
  return results[session.outputNames[0]!]!.data as Float32Array;
}

async function whyNot(engine: EngineName): Promise<string | undefined> {
  const [provider] = providersOf(engine);
  if (!listSupportedBackends().some(({ name, bundled }) => name === provider && bundled)) {
    return 'the installed onnxruntime-node does not have it';
  }
  const [exact, own] = [await answersOf('ort-cpu'), await answersOf(engine)];
  const difference = exact.reduce((most, value, index) => Math.max(most, Math.abs(value - own[index]!)), 0);
  return difference <= DIFFERENCE_MAX ? undefined : `its answers are ${difference} off those of the CPU`;
}

const tell = (why: string | undefined): void =>
  void process.send?.({ why } satisfies FromProbe, undefined, undefined, () => process.exit(0));

whyNot(process.argv[2] as EngineName).then(tell, (error: unknown) => tell((error as Error).message.split('\n')[0]));
