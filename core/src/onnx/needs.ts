/** What a runtime must have to run a model, read off its graph. */
import { elemTypeNames } from './contract.ts';
import { graphOf } from './file.ts';
import type { GraphProto, ModelProto, NodeProto } from './gen/onnx/onnx_pb.ts';
import { intAttribute } from './nodes.ts';
import { definesFunctions, runtimeLimits } from './runnable.ts';

export interface ModelNeeds {
  /** Version of the file format. */
  irVersion: number;
  /** The standard's own has the domain ''. */
  operatorSets: readonly { domain: string; version: number }[];
  /** Each once and in order: those of the standard by name, others behind their domain, as `com.microsoft:MatMulNBits`. */
  operators: readonly string[];
  /** Of weights and casts, by the names of a contract. */
  elementTypes: readonly string[];
}

/** What a runtime has. */
export interface RuntimeAbilities {
  irVersion: number;
  /** Newest version of each operator set, by domain. */
  operatorSets: Readonly<Record<string, number>>;
  /** Standard operators and element types that it lacks. */
  lacksOperator?(name: string): boolean;
  lacksType?(name: string): boolean;
}

/** What ONNX Runtime has, as far as a file can tell: it has kernels for all that the quantizers write. */
export const onnxRuntimeAbilities: RuntimeAbilities = {
  irVersion: runtimeLimits.irVersionMax,
  operatorSets: {
    '': runtimeLimits.opsetMax,
    'ai.onnx.ml': 5,
    'com.microsoft': 1,
    'com.microsoft.nchwc': 1,
    'ai.onnx.training': 1,
    'ai.onnx.preview.training': 1,
  },
};

export function needsOf(model: ModelProto): ModelNeeds {
  const graph = graphOf(model);
  const nodes = nodesIn(graph);
  const used = new Set(nodes.map(({ domain }) => standardised(domain)));
  // Operators that the file itself defines are nobody's to have, and which those are this reader does not see.
  const isForeign = (domain: string): boolean => !(domain in onnxRuntimeAbilities.operatorSets);
  const named = nodes
    .map(({ domain, opType }) => ({ domain: standardised(domain), opType }))
    .filter(({ domain }) => !definesFunctions(model) || !isForeign(domain))
    .map(({ domain, opType }) => (domain === '' ? opType : `${domain}:${opType}`));
  return {
    irVersion: Number(model.irVersion),
    operatorSets: model.opsetImport
      .map(({ domain, version }) => ({ domain: standardised(domain), version: Number(version) }))
      // Exporters list sets that nothing in the file is of.
      .filter(({ domain }) => used.has(domain) && (!definesFunctions(model) || !isForeign(domain)))
      .toSorted((a, b) => (a.domain < b.domain ? -1 : 1)),
    operators: sorted(named),
    elementTypes: sorted(typesIn(graph, nodes)),
  };
}

/** The first thing that the runtime lacks of what a model needs, in words; undefined where it has all. */
export function lackOf(needs: ModelNeeds, runtime: RuntimeAbilities): string | undefined {
  if (needs.irVersion > runtime.irVersion) return `files of ONNX format ${needs.irVersion}`;
  for (const { domain, version } of needs.operatorSets) {
    if (version <= (runtime.operatorSets[domain] ?? 0)) continue;
    const own = needs.operators.flatMap((name) =>
      name.startsWith(`${domain}:`) ? [name.slice(domain.length + 1)] : [],
    );
    const set = `operator set ${version} of ${domain === '' ? 'ONNX' : domain}`;
    return domain === '' || own.length === 0 ? set : `${own.join(', ')} of ${domain}`;
  }
  const foreign = needs.operators.find((name) => name.includes(':') && !(domainOf(name) in runtime.operatorSets));
  if (foreign !== undefined) return foreign;
  const operator = needs.operators.find((name) => !name.includes(':') && runtime.lacksOperator?.(name) === true);
  return operator ?? needs.elementTypes.find((name) => runtime.lacksType?.(name) === true);
}

const domainOf = (operator: string): string => operator.slice(0, operator.indexOf(':'));

const standardised = (domain: string): string => (domain === 'ai.onnx' ? '' : domain);

const sorted = (names: readonly string[]): string[] => [...new Set(names)].toSorted();

/** With those of branches and loop bodies. */
function nodesIn({ node }: GraphProto): NodeProto[] {
  return node.flatMap((each) => [
    each,
    ...each.attribute.flatMap(({ g, graphs }) => (g === undefined ? graphs : [g, ...graphs]).flatMap(nodesIn)),
  ]);
}

function typesIn({ initializer }: GraphProto, nodes: readonly NodeProto[]): string[] {
  const constants = nodes.flatMap(({ attribute }) => attribute.flatMap(({ t }) => (t === undefined ? [] : [t])));
  const casts = nodes.filter(({ opType }) => opType === 'Cast').map((node) => intAttribute(node, 'to', 0));
  return [...[...initializer, ...constants].map(({ dataType }) => dataType), ...casts].map(
    (code) => elemTypeNames.get(code) ?? `type ${code}`,
  );
}
