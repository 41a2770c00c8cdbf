import { OnnxError } from './errors.ts';
import { graphOf, opsetOf } from './file.ts';
import type { ModelProto, NodeProto } from './gen/onnx/onnx_pb.ts';

/** What ONNX Runtime 1.30 loads: operator sets that it promises, and versions of the file format. */
export const runtimeLimits = { opsetMin: 7, opsetMax: 26, irVersionMax: 13 } as const;
/** Operator sets that it has besides the standard one. */
const DOMAINS: readonly string[] = [
  '',
  'ai.onnx',
  'ai.onnx.ml',
  'com.microsoft',
  'com.microsoft.nchwc',
  'ai.onnx.preview',
  'org.pytorch.aten',
];
/** The field of a model's local functions, which this reader leaves alone. */
const FUNCTIONS = 25;

/** True where the file brings operators of its own. */
export const definesFunctions = (model: ModelProto): boolean =>
  model.$unknown?.some(({ no }) => no === FUNCTIONS) === true;

/** Throws OnnxError where no device could run the model, whatever is in it. */
export function requireRunnable(model: ModelProto): void {
  const version = opsetOf(model);
  const { opsetMin: least, opsetMax: most, irVersionMax } = runtimeLimits;
  // A graph may do without the standard operators.
  if (version !== 0 && (version < least || version > most)) {
    throw new OnnxError(
      `the model uses ONNX operator set ${version}, and the runtime takes ${least} to ${most}; export it for 17`,
    );
  }
  if (model.irVersion > BigInt(irVersionMax)) {
    throw new OnnxError(
      `the file is of ONNX format ${model.irVersion}, and the runtime reads up to ${irVersionMax}; write it with an older version of the onnx package`,
    );
  }
  if (definesFunctions(model)) return;
  const foreign = graphOf(model).node.find(({ domain }: NodeProto) => !DOMAINS.includes(domain));
  if (foreign === undefined) return;
  throw new OnnxError(
    `operator ${foreign.opType} of node '${foreign.name}' is of ${foreign.domain}, which the runtime does not have; export the model without it`,
  );
}
