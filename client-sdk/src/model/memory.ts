/** Memory of a loaded model, in bytes of its weights (measured with ONNX Runtime, weights prepacked). */
export const MEMORY_FACTOR = 1.95;
