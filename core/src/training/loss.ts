import type { Gradients } from '../autodiff/backward.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { decodedLoss, predictionsOf, readLossGraph, targetShapeOf, writeLossGraph } from './loss-graph.ts';
import { elemTypes, losses, predictionOf, shares } from './losses.ts';
import type { TargetKind } from './losses.ts';
import type { TrainingPlan } from './plan.ts';

/** What of a plan says what its loss is. */
export type LossPlan = Pick<TrainingPlan, 'loss' | 'lossOptions' | 'lossGraph'>;

/** What is to be learnt, as a graph takes it. */
export interface TargetInput {
  name: string;
  shape: readonly number[];
  dtype: 'int64' | 'float';
}

/** The loss of a plan: one of the table, or a graph of somebody's own. */
export interface Loss {
  kind: TargetKind;
  /** Values of a model that it is taken of. */
  predictions(model: ModelProto): string[];
  /** Declares the target behind a forward pass. */
  target(graph: GraphBuilder, predictions: readonly string[]): TargetInput;
  /** Writes the loss, and its gradients by prediction. */
  write(
    graph: GraphBuilder,
    site: { predictions: readonly string[]; target: string; sampleWeights: string },
  ): { loss: string; gradients: Gradients };
}

const TARGET = 'training/target';

export function lossOf({ loss: name, lossOptions, lossGraph }: LossPlan): Loss {
  if (name === 'graph') return ofGraph(lossGraph ?? '');
  const row = losses[name];
  return {
    kind: row.kind,
    predictions: (model) => [predictionOf(graphOf(model).output[0]!.name, graphOf(model).node, row.contains)],
    target: (graph, [prediction]) => declared(graph, row.targetShape(graph.shapeOf(prediction!)), row.targetType),
    write: (graph, { predictions: [prediction = ''], target, sampleWeights }) => {
      const site = { graph, prediction, target, weights: shares(graph, sampleWeights), options: lossOptions ?? {} };
      const { loss, gradient } = row.write(site);
      return { loss, gradients: new Map([[prediction, gradient]]) };
    },
  };
}

function ofGraph(text: string): Loss {
  const loss = readLossGraph(decodedLoss(text));
  return {
    kind: loss.target.dtype === 'int64' ? 'classes' : 'numbers',
    predictions: (model) => predictionsOf(loss, model),
    target: (graph, predictions) =>
      declared(
        graph,
        targetShapeOf(
          loss,
          predictions.map((name) => graph.shapeOf(name)),
        ),
        loss.target.dtype,
      ),
    write: (graph, site) => writeLossGraph(graph, loss, { ...site, shares: shares(graph, site.sampleWeights) }),
  };
}

function declared(graph: GraphBuilder, shape: readonly number[], dtype: 'int64' | 'float'): TargetInput {
  return { name: graph.input(TARGET, shape, elemTypes[dtype]), shape, dtype };
}
