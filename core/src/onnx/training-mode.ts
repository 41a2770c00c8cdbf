import type { GraphProto, NodeProto } from './gen/onnx/onnx_pb.ts';
import { intAttribute, makeNode } from './nodes.ts';

/**
 * Turns layers that an exporter left in training mode to inference, which is how a version is served. The running statistics of a
 * BatchNormalization that was in training mode become parameters: an Identity in front of them says that they are trained.
 */
export function toInference(graph: GraphProto): GraphProto {
  const taken = new Set(graph.node.flatMap(({ output }) => output));
  const node = graph.node.flatMap((one) => {
    // The third input says whether to drop; without it nothing is dropped.
    if (one.opType === 'Dropout' && one.input.length > 2) return [{ ...one, input: one.input.slice(0, 2) }];
    return isTrainingNorm(one) ? withTrainedStatistics(one, taken) : [one];
  });
  return { ...graph, node };
}

function isTrainingNorm(node: NodeProto): boolean {
  return node.opType === 'BatchNormalization' && intAttribute(node, 'training_mode', 0) === 1;
}

function withTrainedStatistics(norm: NodeProto, taken: Set<string>): NodeProto[] {
  const identities: NodeProto[] = [];
  const statistics = norm.input.slice(3).map((name) => {
    const trained = `${name}/trained`;
    if (!taken.has(trained)) identities.push(makeNode('Identity', [name], [trained]));
    taken.add(trained);
    return trained;
  });
  const attribute = norm.attribute.filter(({ name }) => name !== 'training_mode');
  const input = [...norm.input.slice(0, 3), ...statistics];
  return [...identities, { ...norm, input, output: norm.output.slice(0, 1), attribute }];
}

/** The trained parameters that hold the running mean and variance of a BatchNormalization; undefined where they stay as they are. */
export function trainedStatistics(
  norm: NodeProto,
  nodes: readonly NodeProto[],
  isParameter: (name: string) => boolean,
): { mean: string; variance: string } | undefined {
  if (norm.opType !== 'BatchNormalization') return undefined;
  const [mean, variance] = norm.input.slice(3).map((name) => {
    const maker = nodes.find(({ opType, output }) => opType === 'Identity' && output[0] === name);
    return maker?.input[0] ?? name;
  });
  if (mean === undefined || variance === undefined || !isParameter(mean) || !isParameter(variance)) return undefined;
  return { mean, variance };
}
