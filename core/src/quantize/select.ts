import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { labelOf } from './graph-view.ts';
import { QuantizeError } from './errors.ts';

/** A node by its name (its first output where it has none) and its operator. */
export interface LayerId {
  node: string;
  operator: string;
}

/** A node that stays as it was, and why. */
export interface KeptLayer extends LayerId {
  reason: string;
}

/** What a quantizer made. */
export interface QuantizedModel {
  model: ModelProto;
  layers: readonly LayerId[];
  kept: readonly KeptLayer[];
}

export interface Selection {
  /** Nodes to leave alone: names or operators, with `*` for any letters. */
  exclude?: readonly string[];
}

export const idOf = (node: NodeProto): LayerId => ({ node: labelOf(node), operator: node.opType });

/** Tells whether a node is named by one of the patterns. */
export function excluder({ exclude = [] }: Selection): (node: NodeProto) => boolean {
  const tests = exclude.map((pattern) => new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`, 's'));
  return (node) => tests.some((test) => test.test(labelOf(node)) || test.test(node.opType));
}

/** Throws when no layer was quantized, with the reasons. */
export function requireLayers(layers: readonly LayerId[], kept: readonly KeptLayer[], wanted: string): void {
  if (layers.length > 0) return;
  const reasons = kept.slice(0, 3).map(({ node, operator, reason }) => `'${node}' (${operator}) ${reason}`);
  throw new QuantizeError(
    `there is nothing to quantize: ${reasons.length === 0 ? `the model has no ${wanted}` : reasons.join('; ')}; use another form`,
  );
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
