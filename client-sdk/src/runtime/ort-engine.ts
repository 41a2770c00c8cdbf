import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Session } from './engine.ts';
import type { NativeEngine } from './engine-probe.ts';
import { startThread } from './start-thread.ts';
import { WorkerEngine } from './worker-engine.ts';

/** Models of this size and more are loaded from a file, which takes the runtime half the memory. */
const FILE_BYTES_MIN = 1024 * 1024;

/** ONNX Runtime in one worker thread, started with the first model. Operators that a provider lacks run on the CPU. */
export class OrtEngine extends WorkerEngine {
  constructor({ engine = 'ort-cpu', ...options }: { engine?: NativeEngine; threads?: number } = {}) {
    super(engine, startThread('ort-worker'), options);
  }

  override async load(onnx: Uint8Array): Promise<Session> {
    if (onnx.length < FILE_BYTES_MIN) return this.loadFrom(onnx);
    const folder = await mkdtemp(join(tmpdir(), 'commonweight-'));
    try {
      const path = join(folder, 'model.onnx');
      await writeFile(path, onnx);
      return await this.loadFrom(path);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

/** ONNX Runtime in WebAssembly, in one worker thread: for where there is no native one. */
export class NodeWebEngine extends WorkerEngine {
  constructor(options: { threads?: number } = {}) {
    super('ort-web', startThread('ort-node-web-worker'), options);
  }
}
