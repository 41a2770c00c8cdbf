import { OnnxError } from '../onnx/errors.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { trainingOnly } from '../onnx/metadata.ts';
import { parametersOf } from '../onnx/parameters.ts';
import { fitsAny } from './name-pattern.ts';

const NAMES_SHOWN = 5;

/** All but the tensors whose names fit a pattern is frozen. Takes and gives a whole model; throws OnnxError where none fits. */
export function trainOnly(model: ModelProto, patterns: readonly string[]): ModelProto {
  const names = parametersOf(model).map(({ name }) => name);
  const trained = names.filter((name) => fitsAny(name, patterns));
  if (trained.length > 0) return trainingOnly(model, trained);
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  const rest = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '';
  throw new OnnxError(`no parameter fits ${patterns.join(', ')}: there are ${shown}${rest}`);
}
