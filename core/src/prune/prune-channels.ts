import { ConfigError } from '../errors.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphView, hasSubgraph, isStandard, labelOf } from '../quantize/graph-view.ts';
import { promoteConstants } from '../quantize/prepare.ts';
import { excluder } from '../quantize/select.ts';
import type { KeptLayer } from '../quantize/select.ts';
import { sameShape } from '../tensor/shape.ts';
import { readable } from '../training/readable.ts';
import type { Channel } from './channels.ts';
import { Follower } from './follower.ts';
import { importances } from './importance.ts';
import { followRules } from './rules.ts';
import { shapesOf } from './shapes.ts';
import { withoutChannels } from './take-channels.ts';

export interface PruneChannelsOptions {
  /** Share of the channels of each group of layers that is taken away, from 0 to below 1. */
  sparsity: number;
  /** Nodes whose channels stay: names or operators, with `*` for any letters. */
  exclude?: readonly string[];
}

/** Layers whose channels stay or go together. */
export interface ChannelGroup {
  nodes: readonly string[];
  before: number;
  after: number;
}

export interface PrunedModel {
  model: ModelProto;
  groups: readonly ChannelGroup[];
  /** Layers that keep all channels, and why. */
  kept: readonly KeptLayer[];
}

/**
 * Takes away the channels that say least, with all that is made for them and read of them: the model that is left is an ordinary, smaller
 * one, and answers as if what reads those channels had zeros for weights. Throws OnnxError where no channel can go, naming the node.
 */
export function pruneChannels(model: ModelProto, { sparsity, exclude = [] }: PruneChannelsOptions): PrunedModel {
  if (!(sparsity >= 0 && sparsity < 1)) throw new ConfigError('sparsity must be from 0 to below 1', 'sparsity');
  const followed = followChannels(model, exclude);
  const scores = importances(followed.follower, followed.view);
  const groups = groupsOf(followed.follower);
  const take = new ChannelTaker(followed.follower);
  const reports = groups.flatMap(({ nodes, channels }): ChannelGroup[] => {
    const movable = channels.filter((channel) => followed.follower.sets.obstacle(channel) === undefined);
    if (movable.length === 0) return [];
    const wanted = Math.floor(sparsity * channels.length);
    let count = 0;
    for (const channel of movable.toSorted((a, b) => scores.get(a)! - scores.get(b)!)) {
      if (count < wanted && take.take(channel)) count += 1;
    }
    return [{ nodes: nodes.map(labelOf), before: channels.length, after: channels.length - count }];
  });
  const kept = keptLayers(followed.follower);
  const isSmaller = reports.some(({ before, after }) => after < before);
  if (!isSmaller && sparsity > 0) throw nothingToPrune(kept, groups.length, reports.length);
  return { model: withoutGone(followed, take.gone), groups: reports, kept };
}

/** A model whose channels are known. */
export interface Followed {
  model: ModelProto;
  view: GraphView;
  follower: Follower;
}

export function followChannels(given: ModelProto, exclude: readonly string[]): Followed {
  const raised = readable(given);
  const model = { ...raised, graph: promoteConstants(graphOf(raised)) };
  const graph = graphOf(model);
  const view = new GraphView(graph);
  const follower = new Follower(view, shapesOf(model));
  for (const node of graph.node) followNode(node, follower);
  for (const name of [...view.outputs, ...view.captured]) {
    const node = view.maker(name);
    const track = follower.track(name);
    if (node !== undefined && track !== undefined) {
      const reason = view.outputs.has(name) ? 'makes an output of the model' : 'is read by a branch or a loop';
      follower.hold(track, node, reason);
    }
  }
  const isExcluded = excluder({ exclude });
  for (const { node, channels } of follower.makers) {
    if (isExcluded(node)) follower.sets.hold(channels, { node, reason: 'is excluded' });
  }
  return { model, view, follower };
}

function followNode(node: NodeProto, follower: Follower): void {
  const rule = Object.hasOwn(followRules, node.opType) ? followRules[node.opType] : undefined;
  const isKnown = isStandard(node, node.opType) || node.domain === 'com.microsoft';
  if (rule !== undefined && isKnown && !hasSubgraph(node)) return rule(node, follower);
  follower.stop(node, 'is an operator that channels are not followed through');
}

/** Takes channels away as long as every layer keeps one. */
export class ChannelTaker {
  readonly gone: Set<Channel> = new Set();
  readonly #layers: Set<Channel>[];

  constructor({ makers, sets }: Follower) {
    this.#layers = makers.map(({ channels }) => new Set(channels.map((channel) => sets.find(channel))));
  }

  /** Whether it could go. */
  take(channel: Channel): boolean {
    const own = this.#layers.filter((layer) => layer.has(channel));
    if (own.some((layer) => layer.size === 1)) return false;
    for (const layer of own) layer.delete(channel);
    this.gone.add(channel);
    return true;
  }
}

/** The channels of layers that share any, each once. */
export function groupsOf(follower: Follower): { nodes: NodeProto[]; channels: Channel[] }[] {
  const groups: { nodes: NodeProto[]; channels: Set<Channel> }[] = [];
  for (const { node, channels } of follower.makers.filter(({ isSource }) => isSource)) {
    const own = new Set(channels.map((channel) => follower.sets.find(channel)));
    const shared = groups.filter((group) => [...own].some((channel) => group.channels.has(channel)));
    const joined = {
      nodes: [...shared.flatMap(({ nodes }) => nodes), node],
      channels: new Set([...shared.flatMap(({ channels: known }) => [...known]), ...own]),
    };
    for (const group of shared) groups.splice(groups.indexOf(group), 1);
    groups.push(joined);
  }
  return groups.map(({ nodes, channels }) => ({ nodes, channels: [...channels] }));
}

function keptLayers({ makers, sets }: Follower): KeptLayer[] {
  return makers.flatMap(({ node, channels }) => {
    const obstacles = channels.map((channel) => sets.obstacle(channel));
    const [first] = obstacles;
    if (first === undefined || obstacles.includes(undefined)) return [];
    const { node: where, reason } = first;
    const isElsewhere = where !== undefined && labelOf(where) !== labelOf(node);
    return [
      {
        node: labelOf(node),
        operator: node.opType,
        reason: isElsewhere ? `keeps its channels: '${labelOf(where)}' (${where.opType}) ${reason}` : reason,
      },
    ];
  });
}

function nothingToPrune(kept: readonly KeptLayer[], groups: number, movable: number): OnnxError {
  if (groups === 0) return new OnnxError('the model has no convolution or matrix product whose channels could go');
  if (movable > 0) return new OnnxError('so small a share takes no channel away; give a larger one');
  const reasons = kept.slice(0, 3).map(({ node, operator, reason }) => `'${node}' (${operator}) ${reason}`);
  return new OnnxError(`no channel can go: ${reasons.join('; ')}`);
}

/** The smaller model, once its shapes are what they were meant to be. */
export function withoutGone({ model, view, follower }: Followed, gone: ReadonlySet<Channel>): ModelProto {
  const smaller = withoutChannels(model, follower, gone);
  const shapes = shapesOf(smaller);
  for (const node of view.graph.node) {
    for (const [at, name] of node.output.entries()) {
      const track = follower.track(name);
      // A turned weight has a width of its own, and so has a running statistic behind the first output.
      if (follower.constant(name) !== undefined || (at > 0 && track === undefined)) continue;
      const before = follower.shapeOf(name);
      const width = track?.channels.filter((channel) => !gone.has(follower.sets.find(channel))).length;
      const wanted = track === undefined ? before : before.map((size, axis) => (axis === track.axis ? width! : size));
      if (sameShape(shapes.shapeOf(name), wanted)) continue;
      throw new OnnxError(
        `'${labelOf(node)}' (${node.opType}) would get the shape [${shapes.shapeOf(name).join()}] instead of [${wanted.join()}]; ` +
          'exclude the layers in front of it',
      );
    }
  }
  return smaller;
}
