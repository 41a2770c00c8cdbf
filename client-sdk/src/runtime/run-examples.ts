import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from 'onnxruntime-node';
import type { RunExamples } from './made-forms.ts';

interface OrtParts {
  create(onnx: Uint8Array): Promise<InferenceSession>;
  Tensor: TensorConstructor;
}

/** Runs by ONNX Runtime's JavaScript API, which is the same on every platform. */
export const runExamplesWith =
  ({ create, Tensor }: OrtParts): RunExamples =>
  async (onnx, examples, onOutputs) => {
    const session = await create(onnx);
    try {
      for (const feeds of examples) {
        const given = Object.entries(feeds).map(([name, { type, data, dims }]): [string, OrtTensor] => [
          name,
          new Tensor(type as 'float32', data as Float32Array, dims),
        ]);
        onOutputs((await session.run(Object.fromEntries(given))) as Parameters<typeof onOutputs>[0]);
      }
    } finally {
      await session.release();
    }
  };
