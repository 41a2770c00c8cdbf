import { defineConfig } from 'vite';

/** With these a page may use threads. */
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export default defineConfig({
  optimizeDeps: {
    // Left alone, so that the workers and the WebAssembly beside them are found.
    exclude: ['@commonweight/client-sdk', '@commonweight/edge-agent', 'onnxruntime-web'],
    // What they load is known from the start: found later, it would make the page load anew.
    include: ['@bufbuild/protobuf', '@bufbuild/protobuf/codegenv2', '@bufbuild/protobuf/wire', '@nats-io/nats-core'],
  },
  build: { target: 'es2024' },
  worker: { format: 'es' },
  server: { headers },
  preview: { headers },
});
