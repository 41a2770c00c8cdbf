import type { NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { Shape } from '../tensor/shape.ts';

/** A number that stands for one channel; channels that must stay or go together are united. */
export type Channel = number;

/** The axis of a value along which channels may be taken away, and the channel at each place. */
export interface Track {
  axis: number;
  channels: readonly Channel[];
}

/** Places along an axis of a tensor of the file, and the channel that each belongs to. */
export interface Slice extends Track {
  tensor: TensorProto;
}

/** What makes channels: one slice of the tensor, along the axis, for each. */
export interface Maker extends Slice {
  node: NodeProto;
  /** Whether channels begin here; a depthwise convolution only changes those that it is given. */
  isSource: boolean;
}

/** Why channels have to stay. */
export interface Obstacle {
  node: NodeProto | undefined;
  reason: string;
}

/** Which channels go together, and which have to stay: union-find with path halving. */
export class ChannelSets {
  readonly #parents: number[] = [];
  readonly #obstacles: Map<Channel, Obstacle> = new Map();

  fresh(count: number, obstacle?: Obstacle): Channel[] {
    return Array.from({ length: count }, () => {
      const channel = this.#parents.length;
      this.#parents.push(channel);
      if (obstacle !== undefined) this.#obstacles.set(channel, obstacle);
      return channel;
    });
  }

  /** The channel that stands for all that go together with this one. */
  find(channel: Channel): Channel {
    let root = channel;
    while (this.#parents[root] !== root) {
      this.#parents[root] = this.#parents[this.#parents[root]!]!;
      root = this.#parents[root]!;
    }
    return root;
  }

  unite(a: Channel, b: Channel): void {
    const [left, right] = [this.find(a), this.find(b)];
    if (left === right) return;
    this.#parents[right] = left;
    const obstacle = this.#obstacles.get(left) ?? this.#obstacles.get(right);
    if (obstacle !== undefined) this.#obstacles.set(left, obstacle);
  }

  uniteAll(a: readonly Channel[], b: readonly Channel[]): void {
    a.forEach((channel, place) => this.unite(channel, b[place]!));
  }

  /** The channels have to stay. The first reason is kept. */
  hold(channels: readonly Channel[], obstacle: Obstacle): void {
    for (const channel of channels) {
      const root = this.find(channel);
      if (!this.#obstacles.has(root)) this.#obstacles.set(root, obstacle);
    }
  }

  obstacle(channel: Channel): Obstacle | undefined {
    return this.#obstacles.get(this.find(channel));
  }
}

/** A value whose numbers are a tensor of the file, perhaps turned over: where each of its axes lies in the tensor. */
export interface Constant {
  tensor: TensorProto;
  shape: Shape;
  axes: readonly number[];
}
