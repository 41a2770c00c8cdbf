import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import type { sendUnaryData, ServerReadableStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  BLOB_BYTES_MAX,
  equalBytes,
  GetFoldingResponseSchema,
  GreetResponseSchema,
  PART_UPDATES_MAX,
  type GetFoldingRequest,
  type GetFoldingResponse,
  type GreetRequest,
  type PartHeader,
  type SubmitPartRequest,
  type SubmitPartResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { chunkTurn } from '../pace.ts';
import { unary } from './handlers.ts';
import { toGrpc } from './status.ts';

/** Bytes of parts that are kept at once, over all relays. */
const PART_BYTES_MAX = 2 ** 29;

export function relayHandlers(service: CoordinatorService): UntypedServiceImplementation {
  const room = { bytes: PART_BYTES_MAX };
  return {
    greet: unary(async (_: GreetRequest) => create(GreetResponseSchema, { publicKey: service.publicKey })),
    getFolding: unary(async ({ task, round }: GetFoldingRequest) => foldingOf(service, task, Number(round))),
    submitPart: (
      call: ServerReadableStream<SubmitPartRequest, SubmitPartResponse>,
      callback: sendUnaryData<SubmitPartResponse>,
    ) => {
      submitPart(service, call, room).then(
        (response) => callback(null, response),
        (error: unknown) => callback(toGrpc(error)),
      );
    },
  };
}

/** How a round's updates are folded, as relays are told. */
export function foldingOf(service: CoordinatorService, task: string, round: number): GetFoldingResponse {
  const folding = service.folding(task, round);
  if (folding === undefined) return create(GetFoldingResponseSchema);
  const { configJson, baseVersion, parameters } = folding;
  const numbers = { baseVersion: BigInt(baseVersion), parameters: BigInt(parameters) };
  return create(GetFoldingResponseSchema, { folded: true, configJson, ...numbers });
}

async function submitPart(
  service: CoordinatorService,
  call: ServerReadableStream<SubmitPartRequest, SubmitPartResponse>,
  room: { bytes: number },
): Promise<SubmitPartResponse> {
  let coming: ComingPart | undefined;
  let reserved = 0;
  try {
    for await (const { header, updates, data } of call as AsyncIterable<SubmitPartRequest>) {
      await chunkTurn();
      if (coming === undefined) {
        if (header === undefined)
          throw new ServiceError('invalid', 'the first message of a part must carry its header');
        const size = Number(header.sumSize);
        if (header.updates < 1 || header.updates > PART_UPDATES_MAX || size > BLOB_BYTES_MAX)
          throw new ServiceError('invalid', `a part has 1 to ${PART_UPDATES_MAX} updates and ${BLOB_BYTES_MAX} bytes`);
        if (size > room.bytes) throw new ServiceError('resource-exhausted', 'too many parts at once: try again');
        room.bytes -= reserved = size;
        coming = new ComingPart(header);
      }
      coming.add(updates, data);
      service.addBytes('up', coming.header.task, data.length);
    }
    if (coming === undefined) throw new ServiceError('invalid', 'a part without a message');
    return await service.submitPart(coming.header, { updates: coming.updates, packed: coming.whole() });
  } finally {
    room.bytes += reserved;
  }
}

/** A part that comes in pieces: never more of it is kept than its header says. */
export class ComingPart {
  readonly header: PartHeader;
  readonly updates: UpdateHeader[] = [];
  readonly #sum: Buffer;
  #size = 0;

  constructor(header: PartHeader) {
    this.header = header;
    this.#sum = Buffer.allocUnsafeSlow(Number(header.sumSize));
  }

  add(updates: readonly UpdateHeader[], data: Uint8Array): void {
    if (this.updates.length + updates.length > this.header.updates || this.#size + data.length > this.#sum.length)
      throw new ServiceError('invalid', 'a part is larger than its header says');
    this.updates.push(...updates);
    this.#sum.set(data, this.#size);
    this.#size += data.length;
  }

  whole(): Uint8Array {
    const digest = createHash('sha256').update(this.#sum.subarray(0, this.#size)).digest();
    if (this.#size !== this.#sum.length || !equalBytes(digest, this.header.sumDigest))
      throw new ServiceError('invalid', 'the bytes of a part are not those that its header announces: send it again');
    return this.#sum;
  }
}
