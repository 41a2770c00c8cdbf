import {
  addLora,
  addRanges,
  parametersOf,
  parseLora,
  replaceHead,
  trainOnly,
  type ModelProto,
  type Range,
} from '@commonweight/core';
import { UsageError } from '../output/failure.ts';

/** What `model import` changes of a file. */
export interface AdaptFlags {
  replaceHead?: number;
  /** Patterns of tensors. */
  train?: readonly string[];
  /** Patterns of layers. */
  lora?: readonly string[];
  loraRank?: number;
  loraAlpha?: number;
  /** Whether tensors for the ranges of activations are added. */
  keepRanges?: boolean;
  seed: number;
}

const RANK = 8;

/** Whether anything of a file is to be changed. Throws UsageError where flags miss the one that they belong to. */
export function adapts({ replaceHead: classes, train, lora, loraRank, loraAlpha, keepRanges }: AdaptFlags): boolean {
  if (lora === undefined && (loraRank ?? loraAlpha) !== undefined) {
    throw new UsageError(
      "--lora-rank and --lora-alpha go with --lora: say which layers get adapters, such as --lora '*.query.*'",
    );
  }
  return classes !== undefined || train !== undefined || lora !== undefined || keepRanges === true;
}

/** A model with a new head, with adapters, with a part of it frozen, or with tensors for ranges. Throws OnnxError or ConfigError. */
export function adapted(model: ModelProto, flags: AdaptFlags, ranges?: ReadonlyMap<string, Range>): ModelProto {
  const changed = trainedAnew(model, flags);
  return flags.keepRanges === true ? addRanges(changed, ranges) : changed;
}

function trainedAnew(model: ModelProto, flags: AdaptFlags): ModelProto {
  const { replaceHead: classes, train, lora, loraRank, loraAlpha, seed } = flags;
  const headed = classes === undefined ? model : replaceHead(model, { classes, seed });
  // Numbers that are new have to be trained, whatever else is.
  const head = classes === undefined ? [] : headOf(replaceHead(model, { classes, seed, train: 'head' }));
  if (lora !== undefined) {
    const rank = loraRank ?? RANK;
    const options = { rank, alpha: loraAlpha ?? rank, targets: lora, train: [...(train ?? []), ...head], seed };
    return addLora(headed, parseLora(options));
  }
  return train === undefined ? headed : trainOnly(headed, [...train, ...head]);
}

const headOf = (model: ModelProto): string[] => parametersOf(model).map(({ name }) => name);
