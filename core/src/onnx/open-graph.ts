import { graphOf, readModel } from './file.ts';
import { GraphBuilder } from './graph-builder.ts';

/** A graph of fixed shapes, such as are written here, read back with the shape of every value and the numbers of constants. */
export function openGraph(bytes: Uint8Array): GraphBuilder {
  const { node, initializer, input } = graphOf(readModel(bytes));
  const graph = new GraphBuilder('read/');
  const constants = new Set(initializer.map(({ name }) => name));
  for (const tensor of initializer) graph.initializer(tensor);
  for (const { name, type } of input) {
    const tensor = type?.value.case === 'tensorType' ? type.value.value : undefined;
    if (constants.has(name) || tensor === undefined) continue;
    const shape = (tensor.shape?.dim ?? []).map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : -1));
    graph.input(name, shape, tensor.elemType);
  }
  for (const one of node) graph.append(one);
  return graph;
}
