import { OnnxError } from '../onnx/errors.ts';
import { opsetOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { QuantizeError } from '../quantize/errors.ts';
import { raiseOpset } from '../quantize/raise-opset.ts';

/** The newest operator set of the runtime, which training reads as well. */
const OPSET_MAX = 26;

/** The model in an operator set that training reads: older nodes are written as 13 has them. */
export function readable(model: ModelProto): ModelProto {
  const version = opsetOf(model);
  if (version > OPSET_MAX) {
    throw new OnnxError(
      `the model uses ONNX operator set ${version}; training reads up to ${OPSET_MAX}: export it for 17`,
    );
  }
  try {
    return raiseOpset(model);
  } catch (cause) {
    if (cause instanceof QuantizeError) throw new OnnxError(cause.message, { cause });
    throw cause;
  }
}
