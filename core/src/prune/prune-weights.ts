import { layersOf } from '../adapters/layers.ts';
import { ConfigError } from '../errors.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatTensor, dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { excluder } from '../quantize/select.ts';

export interface PruneWeightsOptions {
  /** Share of the weights that become zero, from 0 to below 1. */
  sparsity: number;
  /** Whether each tensor loses that share, or all of them together: then tensors of small weights lose more. */
  scope?: 'layer' | 'global';
  /** Nodes whose weights stay: names or operators, with `*` for any letters. */
  exclude?: readonly string[];
}

/**
 * Puts zeros in the place of the smallest weights of convolutions and matrix products (Han et al. 2015). Sizes stay: the file is as large as
 * before and as fast, but most of it says nothing, which compression finds. Biases and norms are left alone.
 */
export function pruneWeights(
  model: ModelProto,
  options: PruneWeightsOptions,
): { model: ModelProto; tensors: readonly string[] } {
  const { sparsity, scope = 'layer', exclude = [] } = options;
  if (!(sparsity >= 0 && sparsity < 1)) throw new ConfigError('sparsity must be from 0 to below 1', 'sparsity');
  const isExcluded = excluder({ exclude });
  const graph = graphOf(model);
  const layers = layersOf(graph).filter(({ node }) => !isExcluded(node));
  const tensors = [...new Map(layers.map(({ weight }) => [weight.name, weight])).values()];
  if (tensors.length === 0)
    throw new OnnxError('the model has no convolution or matrix product whose weights could go');
  const together = scope === 'global' ? smallest(tensors.map(floatValues), sparsity) : undefined;
  const pruned = new Map(
    tensors.map((tensor, at) => {
      const values = floatValues(tensor);
      const places = together?.[at] ?? smallest([values], sparsity)[0]!;
      for (const place of places) values[place] = 0;
      return [tensor.name, { ...floatTensor(tensor.name, dimsOf(tensor), values), docString: tensor.docString }];
    }),
  );
  const initializer = graph.initializer.map((tensor) => pruned.get(tensor.name) ?? tensor);
  return { model: { ...model, graph: { ...graph, initializer } }, tensors: [...pruned.keys()] };
}

/** Places of the smallest numbers of several lists: exactly the share of them all, ties by order. */
function smallest(lists: readonly Float32Array[], share: number): number[][] {
  const total = lists.reduce((sum, { length }) => sum + length, 0);
  const count = Math.floor(share * total);
  const sizes = new Float32Array(total);
  let at = 0;
  for (const list of lists) for (const value of list) sizes[at++] = Math.abs(value);
  const limit = sizes.toSorted()[count] ?? Infinity;
  let ties = count - sizes.reduce((below, size) => below + Number(size < limit), 0);
  return lists.map((list) => {
    const places: number[] = [];
    list.forEach((value, place) => {
      const size = Math.abs(value);
      if (size < limit || (size === limit && ties-- > 0)) places.push(place);
    });
    return places;
  });
}
