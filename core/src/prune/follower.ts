import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { dimsOf } from '../onnx/tensor-data.ts';
import type { GraphView } from '../quantize/graph-view.ts';
import type { Shape } from '../tensor/shape.ts';
import { ChannelSets } from './channels.ts';
import type { Channel, Constant, Maker, Slice, Track } from './channels.ts';

/** A Reshape whose target names a size that changes with the channels. */
export interface Resizing {
  node: NodeProto;
  /** Of the output. */
  axis: number;
  channels: readonly Channel[];
  shape: Shape;
}

/** What the graph's shapes are, as far as they are known before it runs. */
export interface KnownShapes {
  shapeOf(name: string): Shape;
  integersOf(name: string): readonly number[] | undefined;
}

/** Follows channels through a graph: which places of which values and tensors belong to each. */
export class Follower {
  readonly sets: ChannelSets = new ChannelSets();
  readonly makers: Maker[] = [];
  readonly resizings: Resizing[] = [];
  readonly slices: Map<string, Slice[]> = new Map();
  readonly #tracks: Map<string, Track> = new Map();
  readonly #constants: Map<string, Constant>;
  readonly #shapes: KnownShapes;
  readonly #view: GraphView;

  constructor(view: GraphView, shapes: KnownShapes) {
    this.#shapes = shapes;
    this.#view = view;
    this.#constants = new Map(
      [...view.constants.values()].map((tensor) => [
        tensor.name,
        { tensor, shape: dimsOf(tensor), axes: dimsOf(tensor).map((_, axis) => axis) },
      ]),
    );
  }

  shapeOf(name: string): Shape {
    return this.#shapes.shapeOf(name);
  }

  integersOf(name: string): readonly number[] | undefined {
    return this.#shapes.integersOf(name);
  }

  readersOf(name: string): readonly NodeProto[] {
    return this.#view.readers(name);
  }

  track(name: string): Track | undefined {
    return this.#tracks.get(name);
  }

  setTrack(name: string, track: Track): void {
    this.#tracks.set(name, track);
  }

  constant(name: string): Constant | undefined {
    return this.#constants.get(name);
  }

  setConstant(name: string, constant: Constant): void {
    this.#constants.set(name, constant);
  }

  /** The channels of a value along an axis. Where it has none there, they are new ones that have to stay. */
  channelsOf(name: string, axis: number, node: NodeProto): readonly Channel[] {
    const track = this.#tracks.get(name);
    if (track?.axis === axis) return track.channels;
    if (track !== undefined) this.hold(track, node, 'reads channels along another axis');
    return this.sets.fresh(this.shapeOf(name)[axis] ?? 1, { node, reason: 'reads numbers that no layer makes' });
  }

  hold(track: Track | undefined, node: NodeProto, reason: string): void {
    if (track !== undefined) this.sets.hold(track.channels, { node, reason });
  }

  /** The channels of all that the node reads have to stay, and nothing is known of what it gives. */
  stop(node: NodeProto, reason: string): void {
    for (const name of node.input) {
      this.hold(this.#tracks.get(name), node, reason);
      const constant = this.#constants.get(name);
      if (constant === undefined) continue;
      constant.shape.forEach((size, axis) => {
        if (size > 1) this.cut(constant, axis, this.sets.fresh(size, { node, reason }));
      });
    }
  }

  /** Places along an axis of a constant belong to these channels. A tensor that is read twice unites what it is read for. */
  cut({ tensor, axes }: Constant, axis: number, channels: readonly Channel[]): Slice {
    const own = axes[axis]!;
    const known = this.slices.get(tensor.name) ?? [];
    const before = known.find((slice) => slice.axis === own);
    if (before !== undefined) {
      this.sets.uniteAll(before.channels, channels);
      return before;
    }
    const slice = { tensor, axis: own, channels };
    this.slices.set(tensor.name, [...known, slice]);
    return slice;
  }

  /** New channels, one for each place of the weight's axis. */
  make(node: NodeProto, weight: Constant, axis: number): readonly Channel[] {
    const channels = this.sets.fresh(weight.shape[axis]!);
    const slice = this.cut(weight, axis, channels);
    this.makers.push({ ...slice, node, isSource: true });
    return slice.channels;
  }
}
