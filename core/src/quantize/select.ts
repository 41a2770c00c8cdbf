import type { GraphProto, ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { hasSubgraph, labelOf } from './graph-view.ts';
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
  /** Nodes that depend on constants alone and became constants themselves. */
  folded: number;
}

export interface Selection {
  /** Nodes to leave alone: names or operators, with `*` for any letters. */
  exclude?: readonly string[];
  /** Labels of further nodes to leave alone, taken literally. */
  keep?: ReadonlySet<string>;
  /** Labels of the only nodes to quantize. */
  only?: ReadonlySet<string>;
}

export const idOf = (node: NodeProto): LayerId => ({ node: labelOf(node), operator: node.opType });

/** Tells whether a node is to be left alone. */
export function excluder({ exclude = [], keep, only }: Selection): (node: NodeProto) => boolean {
  const tests = exclude.map((pattern) => new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`, 's'));
  return (node) => {
    const label = labelOf(node);
    if (keep?.has(label) === true || only?.has(label) === false) return true;
    return tests.some((test) => test.test(label) || test.test(node.opType));
  };
}

/** Throws when no layer was quantized, with the reasons. A node with branches is one of them, as the layers in it are out of reach. */
export function requireLayers(
  layers: readonly LayerId[],
  kept: readonly KeptLayer[],
  { graph, wanted }: { graph: GraphProto; wanted: string },
): void {
  if (layers.length > 0) return;
  const branching = graph.node.filter(hasSubgraph).slice(0, 1).map(outOfReach);
  const reasons = [...kept, ...branching]
    .slice(0, 3)
    .map(({ node, operator, reason }) => `node '${node}' (${operator}) ${reason}`);
  throw new QuantizeError(
    `there is nothing to quantize: ${reasons.length === 0 ? `the model has no ${wanted}` : reasons.join('; ')}; ` +
      (kept.length === 0 && branching.length > 0 ? 'export the model without it' : 'use another form'),
  );
}

const outOfReach = (node: NodeProto): KeptLayer => ({
  ...idOf(node),
  reason: 'holds a graph of its own, which quantizing does not reach',
});

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
