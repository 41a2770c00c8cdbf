import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { RandomStream } from '@commonweight/core';
import {
  ManifestSchema,
  ReceiptSchema,
  SignedManifestSchema,
  SignedReceiptSchema,
  type SignedManifest,
  type UpdateHeader,
} from '@commonweight/proto';
import type { OutboxEntry } from '../../edge-agent/src/outbox/outbox.ts';
import { hex } from './agent-disk.ts';
import type { SimulatedApp } from './app.ts';
import type { AgentEdge } from './ask.ts';
import { badUpdate, type BadUpdateContext } from './bad-updates.ts';
import { Violation, type History } from './history.ts';
import type { SimulatedLink } from './link.ts';
import type { Network } from './network.ts';
import { RELAY } from './relay.ts';
import { newSigner } from './signer.ts';

export interface MischiefWorld {
  network: Network;
  history: History;
  coordinatorKey: Uint8Array;
  /** What nearly good updates are made of now. */
  context(): BadUpdateContext;
  /** Some edge that takes updates now. */
  gate(): AgentEdge | undefined;
  /** Agents that anybody can talk to, and that wait for receipts. */
  waiting(): readonly { link: SimulatedLink; updates: readonly OutboxEntry[] }[];
  trace(line: string): void;
  onViolation(violation: Violation): void;
  onBug(error: Error): void;
}

const impostor = newSigner();

/** Somebody on the network who sends what is bad, what was sent before, and what is forged. */
export class Mischief {
  readonly #world: MischiefWorld;
  readonly #updates: OutboxEntry[] = [];
  readonly #releases: SignedManifest[] = [];

  constructor(world: MischiefWorld) {
    this.#world = world;
  }

  /** Every real update that was seen. */
  get updates(): readonly OutboxEntry[] {
    return this.#updates;
  }

  seesUpdate(entry: OutboxEntry): void {
    this.#updates.push(entry);
  }

  seesRelease(release: SignedManifest): void {
    this.#releases.push(release);
  }

  /** Sends a real update once more, whatever became of it. */
  sendAgain(random: RandomStream): void {
    const { history, network, gate, onBug } = this.#world;
    const entry = this.#updates[random.integer(this.#updates.length)];
    // What its agent never kept, it never sent.
    if (entry === undefined || !history.isKept(hex(entry.header.updateId))) return;
    const { header, payload } = entry;
    const send = ({ service }: AgentEdge): void =>
      void service.submitChunk(header.agentId, header, 0, payload).then(
        ({ accepted, receipt }) => accepted && receipt === undefined && history.accepted(hex(header.updateId)),
        (error: Error) => onBug(error),
      );
    network.send('somebody', () => {
      const to = gate();
      to?.deliver(() => send(to));
    });
  }

  sendBad(random: RandomStream): void {
    const { history, network, gate, context } = this.#world;
    if (history.versions === 0) return;
    const { header, payload, what } = badUpdate(random, context());
    history.knows(hex(header.updateId), { index: undefined, baseVersion: Number(header.baseVersion) });
    network.send('somebody', () => {
      const to = gate();
      to?.deliver(() => this.#sendBadTo(to, { header, payload, what }));
    });
  }

  #sendBadTo(
    { machine, service }: AgentEdge,
    { header, payload, what }: { header: UpdateHeader; payload: Uint8Array; what: string },
  ): void {
    const { trace, onViolation } = this.#world;
    service.submitChunk(header.agentId, header, 0, payload).then(
      ({ accepted, receipt }) => {
        // Before a relay knows better it keeps what its coordinator will refuse.
        if (!accepted || receipt !== undefined || machine === RELAY) return;
        onViolation(new Violation(`I6: a bad update was accepted: ${what}`));
      },
      () => trace(`a bad update is turned away: ${what}`),
    );
  }

  /** Tells an agent in the coordinator's name that its update is part of a version. */
  forgeReceipt(random: RandomStream): void {
    const { network, waiting, history, coordinatorKey } = this.#world;
    const all = waiting();
    const victim = all[random.integer(all.length)];
    if (victim === undefined) return;
    const { updateId, task, round } = victim.updates[0]!.header;
    const outcome = { case: 'committedVersion', value: BigInt(history.versions + 1) } as const;
    const receipt = toBinary(ReceiptSchema, create(ReceiptSchema, { updateId, task, round, outcome }));
    const forger = random.uniform() < 0.5 ? impostor : { ...impostor, publicKey: coordinatorKey };
    const signature = forger.sign('Receipt', receipt);
    const forged = create(SignedReceiptSchema, { receipt, signature, publicKey: forger.publicKey });
    network.send('somebody', () => victim.link.deliverForged(forged));
  }

  /** Offers an app what is no newer version: an older one, one that another key signed, one that was altered. */
  forgeRelease(random: RandomStream, victim: SimulatedApp | undefined): void {
    const genuine = this.#releases[random.integer(this.#releases.length)];
    if (genuine === undefined || victim === undefined) return;
    const next = fromBinary(ManifestSchema, genuine.manifest);
    next.version = BigInt(this.#world.history.versions + 1);
    const manifest = toBinary(ManifestSchema, next);
    const offers = [
      genuine,
      { ...genuine, manifest },
      { ...genuine, manifest, signature: impostor.sign('Manifest', manifest) },
      { ...genuine, manifest, signature: impostor.sign('Manifest', manifest), publicKey: impostor.publicKey },
    ];
    const { publicKey, signature, manifest: offered } = offers[random.integer(offers.length)]!;
    const offer = create(SignedManifestSchema, { publicKey, signature, manifest: offered });
    if (victim.isAlive) victim.link.deliver(offer);
  }
}
