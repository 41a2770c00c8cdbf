import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { InferenceSession } from 'onnxruntime-node';
import { EngineError, type Engine, type EngineName } from '../engine.ts';
import { blockSize } from './block-size.ts';
import { OrtTrainingEngine } from './ort-engine.ts';
import type { OrtRuntime } from './ort-program.ts';

/** ONNX Runtime's names of its providers. */
const PROVIDERS: Partial<Record<EngineName, string>> = {
  'ort-cpu': 'cpu',
  'ort-webgpu': 'webgpu',
  'ort-cuda': 'cuda',
  'ort-dml': 'dml',
  'ort-coreml': 'coreml',
};

/** ONNX Runtime in Node, by one of its providers. Throws EngineError where the installed package does not have it. */
export async function openOrtNode(name: EngineName, { threads }: { threads: number }): Promise<Engine> {
  const { InferenceSession: Session, Tensor, listSupportedBackends } = await import('onnxruntime-node');
  const provider = PROVIDERS[name]!;
  if (!listSupportedBackends().some((backend) => backend.name === provider && backend.bundled)) {
    throw new EngineError(`the installed onnxruntime-node does not have ${provider}`);
  }
  const options: InferenceSession.SessionOptions = {
    executionProviders: provider === 'cpu' ? ['cpu'] : [provider, 'cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // What fails is thrown, and what runs on the CPU is asked for.
    logSeverityLevel: 4,
  };
  if (provider === 'cpu') {
    const createSession: OrtRuntime['createSession'] = (model) => Session.create(model, options);
    const blocks = await blockSize(Session.create.bind(Session));
    const forms = { matrices: true, ...(blocks === undefined ? {} : { blocks }) };
    return new OrtTrainingEngine(name, forms, { Tensor, createSession, keeps: 'in-buffers' });
  }
  const profiles = new WeakMap<InferenceSession, string>();
  const runtime: OrtRuntime = {
    Tensor,
    createSession: async (model, { onCpu = false, onDevice = [], isWatched = false } = {}) => {
      if (onCpu) return Session.create(model, { ...options, executionProviders: ['cpu'] });
      const kept = Object.fromEntries(onDevice.map((output) => [output, 'gpu-buffer' as const]));
      const more = onDevice.length === 0 ? {} : { preferredOutputLocation: kept };
      if (!isWatched) return Session.create(model, { ...options, ...more });
      const folder = await mkdtemp(join(tmpdir(), 'commonweight-profile-'));
      try {
        const profile = { enableProfiling: true, profileFilePrefix: join(folder, 'profile') };
        const session = await Session.create(model, { ...options, ...more, ...profile });
        profiles.set(session, folder);
        return session;
      } catch (error) {
        await rm(folder, { recursive: true, force: true });
        throw error;
      }
    },
    // Only of WebGPU can the package hand a buffer of the device over to the next run.
    keeps: provider === 'webgpu' ? 'on-device' : 'in-buffers',
    elsewhere: async (session) => {
      session.endProfiling();
      const folder = profiles.get(session)!;
      const operators = await operatorsOnCpu(folder);
      await rm(folder, { recursive: true, force: true });
      return operators;
    },
  };
  // Places of a MaxPool's largest numbers are given out on the CPU alone.
  return new OrtTrainingEngine(name, { pooling: 'comparison' }, runtime);
}

/** Operators that a run did on the CPU, by the profile that ONNX Runtime wrote of it. */
async function operatorsOnCpu(folder: string): Promise<string[]> {
  const [file] = await readdir(folder);
  if (file === undefined) return [];
  const events = JSON.parse(await readFile(join(folder, file), 'utf8')) as {
    cat?: string;
    args?: { op_name?: string; provider?: string };
  }[];
  const operators = events.flatMap(({ cat, args }) =>
    cat === 'Node' && args?.provider === 'CPUExecutionProvider' && args.op_name !== undefined ? [args.op_name] : [],
  );
  // What carries values from one to the other is no operator of the graph.
  return [...new Set(operators)].filter((operator) => !operator.startsWith('Memcpy')).sort();
}
