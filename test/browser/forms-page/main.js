// What the tests of forms and engines in a page call: connects as it is told, and says what serves and what it answers.
import { connect } from '@commonweight/client-sdk';
import { webGpu } from '@commonweight/client-sdk/webgpu';

window.serve = async (url, name, { withWebGpu = false, ...options }) => {
  const client = await connect(url, { ...options, ...(withWebGpu ? { engines: [webGpu] } : {}) });
  try {
    const model = await client.model(name);
    const input = Float32Array.from({ length: 784 }, (_, index) => Math.sin(index));
    const { outputs, version } = await model.predict({ input });
    return { variant: model.variant, version, output: [...Object.values(outputs)[0].data] };
  } finally {
    await client.close();
  }
};
