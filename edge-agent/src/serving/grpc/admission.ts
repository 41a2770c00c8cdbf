/** Decides of a call by its headers, and of its message by its first five bytes, before anything of it is kept. */
import { constants, type Http2Session } from 'node:http2';
import {
  Metadata,
  ServerInterceptingCall,
  status,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type StatusObject,
} from '@grpc/grpc-js';
import type { ByteBudget } from '../byte-budget.ts';
import { RETRY_AFTER_S, ServingError } from '../errors.ts';
import { messageHeadReader, type MessageHead } from './message-head.ts';

export interface AdmissionLimits {
  connectionsMax: number;
  /** Bytes of a prediction's message, unpacked. */
  bodyBytesMax: number;
  /** Bytes of any other. */
  questionBytesMax: number;
  /** Predictions under way at once, over all connections. */
  callsMax: number;
  /** How long a message may take to come whole, and an answer to be taken. */
  requestMs: number;
}

export interface AdmissionParts<Message> {
  /** Of the calls that ask for predictions; the others are small, and are always answered. */
  path: string;
  limits: AdmissionLimits;
  /** Of the bytes of all messages that come or wait. */
  budget: ByteBudget;
  /** Bytes that a message takes once it is read. */
  sizeOf(message: Message): number;
  isBeyond(session: Http2Session | undefined): boolean;
  /** Throws ServingError where no prediction can be taken at all. */
  checkRoom(): void;
  /** Hears of predictions that never reach their handler. */
  onRefused(error: ServingError): void;
}

type Status = Parameters<ServerInterceptingCallInterface['sendStatus']>[0];

export interface Admission {
  interceptor: ServerInterceptor;
  /** Predictions under way. */
  readonly calls: number;
}

/** The private part of a call that is its stream (grpc-js 1.14.7). */
interface CallInside {
  stream?: Stream;
}

interface Stream {
  session?: Http2Session;
  prependListener(event: 'data', listener: (piece: Uint8Array) => void): unknown;
  off(event: 'data', listener: (piece: Uint8Array) => void): unknown;
  once(event: 'close', listener: () => void): unknown;
  close(code: number): void;
}

export function admission<Message>(parts: AdmissionParts<Message>): Admission {
  let calls = 0;
  const count = (by: 1 | -1): void => void (calls += by);
  const interceptor: ServerInterceptor = (method, call) => {
    const { stream } = call as unknown as CallInside;
    if (stream === undefined) throw new Error('grpc-js has changed inside: admission must be looked at again');
    return new Admitted(parts, { call, stream, isPrediction: method.path === parts.path, calls: () => calls, count })
      .intercepted;
  };
  return {
    interceptor,
    get calls() {
      return calls;
    },
  };
}

interface Called {
  call: ServerInterceptingCallInterface;
  stream: Stream;
  isPrediction: boolean;
  calls(): number;
  count(by: 1 | -1): void;
}

/** One call, from its headers to its end. */
class Admitted<Message> {
  readonly intercepted: ServerInterceptingCall;
  readonly #parts: AdmissionParts<Message>;
  readonly #called: Called;
  #isCounted = false;
  #held = 0;
  #giveBack = (): void => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: AdmissionParts<Message>, called: Called) {
    this.#parts = parts;
    this.#called = called;
    this.intercepted = new ServerInterceptingCall(called.call, {
      start: (next) => {
        // A call that is refused is never read.
        if (!this.#orRefused(() => this.#admit())) return;
        this.#await(
          `the message was not whole after ${parts.limits.requestMs} ms: send it faster, or fewer rows at once`,
        );
        this.#atHead((head) => void this.#orRefused(() => this.#take(head)));
        next({
          onReceiveMessage: (message: Message, nextMessage) => {
            clearTimeout(this.#timer);
            if (this.#orRefused(() => this.#takeRead(message))) nextMessage(message);
          },
        });
      },
      sendMessage: (message, next) => {
        // A status would wait behind what is not taken.
        this.#timer = setTimeout(() => called.stream.close(constants.NGHTTP2_CANCEL), parts.limits.requestMs);
        next(message);
      },
    });
    called.stream.once('close', () => this.#over());
    this.#hearStatus();
  }

  /** By headers alone. */
  #admit(): void {
    const { call, stream, isPrediction, calls, count } = this.#called;
    const { limits, isBeyond, checkRoom } = this.#parts;
    if (isBeyond(stream.session)) {
      throw new ServingError(
        'queue-full',
        `this server has as many connections as it takes, ${limits.connectionsMax}, and refuses that of ${call.getPeer()}: share connections, or close those that are idle, and try again later`,
      );
    }
    if (!isPrediction) return;
    if (calls() >= limits.callsMax) {
      throw new ServingError(
        'queue-full',
        `${limits.callsMax} predictions are under way over gRPC, and no more are taken at once: try again later, or serve from more processes`,
      );
    }
    checkRoom();
    count(1);
    this.#isCounted = true;
  }

  #atHead(then: (head: MessageHead) => void): void {
    const { stream } = this.#called;
    const read = messageHeadReader();
    // Before grpc-js keeps the piece.
    const onPiece = (piece: Uint8Array): void => {
      const head = read(piece);
      if (head === undefined) return;
      stream.off('data', onPiece);
      then(head);
    };
    stream.prependListener('data', onPiece);
  }

  /** By what the message says of its size. A compressed one may become as large as any while it is unpacked. */
  #take({ isCompressed, bytes }: MessageHead): void {
    const { limits, budget } = this.#parts;
    const { isPrediction } = this.#called;
    const max = isPrediction ? limits.bodyBytesMax : limits.questionBytesMax;
    if (bytes > max)
      throw isPrediction
        ? tooLarge(max)
        : new ServingError(
            'too-large',
            `the message is ${bytes} bytes, and ${max} are enough for what this method takes`,
          );
    if (!isPrediction) return;
    this.#held = bytes;
    this.#giveBack = budget.take(isCompressed ? max : bytes);
  }

  /** By what it takes now. */
  #takeRead(message: Message): void {
    if (!this.#called.isPrediction) return;
    this.#giveBack();
    this.#giveBack = this.#parts.budget.take(Math.max(this.#held, this.#parts.sizeOf(message)));
  }

  /** Whether the step was made; where it throws, the call ends with the reason. */
  #orRefused(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (thrown) {
      if (!(thrown instanceof ServingError)) throw thrown;
      this.#refuse(thrown);
      return false;
    }
  }

  #refuse(error: ServingError): void {
    if (this.#called.isPrediction) this.#parts.onRefused(error);
    this.#cutShort(statusOf(error));
  }

  #await(details: string): void {
    const end = (): void => this.#cutShort({ code: status.DEADLINE_EXCEEDED, details });
    this.#timer = setTimeout(end, this.#parts.limits.requestMs);
  }

  /** Whoever still sends need not go on (RFC 9113, 8.1). */
  #cutShort(sent: Status): void {
    const { call, stream } = this.#called;
    call.sendStatus(sent);
    stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** Every end passes here, grpc-js's own too: it refuses what is too large when it is unpacked, without a word on what to do. */
  #hearStatus(): void {
    const { call } = this.#called;
    const send = call.sendStatus.bind(call);
    call.sendStatus = (sent) => {
      this.#over();
      if (sent.code !== status.RESOURCE_EXHAUSTED || !/decompresses/.test(sent.details)) return send(sent);
      const error = tooLarge(this.#parts.limits.bodyBytesMax);
      this.#parts.onRefused(error);
      send(statusOf(error));
    };
  }

  /** Gives back what the call holds; it may be called again. */
  #over(): void {
    clearTimeout(this.#timer);
    this.#giveBack();
    if (this.#isCounted) this.#called.count(-1);
    this.#isCounted = false;
  }
}

const tooLarge = (max: number): ServingError =>
  new ServingError(
    'too-large',
    `the message is larger than ${max} bytes: send fewer rows at once, or raise --body-max`,
  );

/** An error as gRPC says it. */
export function statusOf(error: ServingError): StatusObject {
  const metadata = new Metadata();
  // How gRPC clients that try again are told to wait (gRFC A6).
  if (error.passing) metadata.set('grpc-retry-pushback-ms', String(RETRY_AFTER_S * 1000));
  return { code: error.codes.grpc, details: error.message, metadata };
}
