import { create, fromBinary } from '@bufbuild/protobuf';
import {
  buildEvaluationGraph,
  encodings,
  EvaluationReports,
  logistic,
  seeded,
  StatisticsReports,
  type EvaluationPlan,
  type StatisticsPlan,
} from '@commonweight/core';
import {
  Encoding,
  gridFromWire,
  ManifestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
} from '@commonweight/proto';
import { sealed, sha256 } from './test-agent.ts';

/** The report that an agent sends for an assignment. */
export function reportOf(
  agentId: string,
  assignment: Assignment,
  report: Float32Array,
  encode: (report: Float32Array) => Uint8Array = (values) =>
    encodings.float32.encode(values, gridFromWire(assignment.grid!), seeded('never drawn from')),
) {
  const payload = encode(report);
  const { round, task } = assignment;
  const baseVersion = Number(fromBinary(ManifestSchema, assignment.base!.manifest).version);
  const payloadDigest = sha256(payload);
  const identity = { agentId, task, round: Number(round), baseVersion, payloadDigest };
  const header = create(UpdateHeaderSchema, {
    updateId: updateId(identity, sha256),
    agentId,
    task,
    round,
    baseVersion: BigInt(baseVersion),
    encoding: Encoding.FLOAT32,
    weight: 1n,
    payloadDigest,
    payloadSize: BigInt(payload.length),
  });
  return { header: sealed(header), payload };
}

/** The model of these tests. */
const graph = logistic({ inputs: 12, outputs: 3, seed: 1 });

/** An evaluation of some weights, by how many of so many examples each gets right. */
export function accuracyReport(assignment: Assignment, examples: number, right: readonly number[]): Float32Array {
  const plan = JSON.parse(assignment.planJson) as EvaluationPlan;
  const { totals } = buildEvaluationGraph(graph, plan, 1);
  const found = right.map((count) =>
    Object.fromEntries(
      totals.map(({ name, output, shape }) => [
        output,
        Array(Math.max(1, shape[0] ?? 1)).fill(name === 'right' ? count : examples) as number[],
      ]),
    ),
  );
  return new EvaluationReports(totals, right.length).report(examples, found);
}

/** Statistics of some examples of 12 values. */
export const statisticsReport = (
  assignment: Assignment,
  inputs: Float32Array,
  labels: readonly number[],
): Float32Array => new StatisticsReports(JSON.parse(assignment.planJson) as StatisticsPlan, 12).report(inputs, labels);
