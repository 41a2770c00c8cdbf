import { OnnxError } from '../onnx/errors.ts';

/** The model or its numbers cannot be quantized; the message says why and what mends it. */
export class QuantizeError extends OnnxError {
  override readonly name: string = 'QuantizeError';
}
