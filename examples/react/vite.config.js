import { defineConfig } from 'vite';

export default defineConfig({
  // Left alone, so that the worker and the WebAssembly beside it are found.
  optimizeDeps: { exclude: ['@commonweight/client-sdk', 'onnxruntime-web'] },
  build: { target: 'es2024' },
  worker: { format: 'es' },
});
