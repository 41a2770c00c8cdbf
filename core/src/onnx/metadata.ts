import { create } from '@bufbuild/protobuf';
import { OnnxError } from './errors.ts';
import { StringStringEntryProtoSchema } from './gen/onnx/onnx_pb.ts';
import type { ModelProto } from './gen/onnx/onnx_pb.ts';

/** A note that the model's file carries, or undefined. */
export function noteOf(model: ModelProto, key: string): unknown {
  const found = model.metadataProps.find((entry) => entry.key === key);
  if (found === undefined) return undefined;
  try {
    return JSON.parse(found.value);
  } catch (cause) {
    throw new OnnxError(`the model's note '${key}' is no JSON; make the file again`, { cause });
  }
}

/** The model with the note set, or taken off where the value is undefined. */
export function withNote(model: ModelProto, key: string, value: unknown): ModelProto {
  const rest = model.metadataProps.filter((entry) => entry.key !== key);
  const noted =
    value === undefined ? [] : [create(StringStringEntryProtoSchema, { key, value: JSON.stringify(value) })];
  return { ...model, metadataProps: [...rest, ...noted] };
}

const trainedKey = 'commonweight.trained';

/** The model with all but these tensors frozen: split, they alone are its weights, and the others stay in the graph. */
export function trainingOnly(model: ModelProto, names: readonly string[]): ModelProto {
  return withNote(model, trainedKey, names);
}

/** The model with nothing frozen. */
export function trainingAll(model: ModelProto): ModelProto {
  return withNote(model, trainedKey, undefined);
}

/** Names of the tensors that are trained; undefined where nothing is frozen. */
export function trainedNames(model: ModelProto): readonly string[] | undefined {
  const names = noteOf(model, trainedKey);
  if (names === undefined) return undefined;
  if (Array.isArray(names) && names.every((name) => typeof name === 'string')) return names as string[];
  throw new OnnxError(`the model's note '${trainedKey}' is no list of names; make the file again`);
}
