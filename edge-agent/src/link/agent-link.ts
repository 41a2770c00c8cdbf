import type { MessageInitShape } from '@bufbuild/protobuf';
import { requireLoopback, type ReadBlob } from '@commonweight/client-sdk';
import type {
  GetUpdateStatusResponse,
  Hello,
  SessionRequestSchema,
  SessionResponse,
  SubmitUpdateResponse,
  UpdateHeader,
} from '@commonweight/proto';
import { GrpcAgentLink } from './grpc-agent-link.ts';
import { NatsAgentLink } from './nats-agent-link.ts';

/** What an agent says in a session. */
export type SessionMessage = NonNullable<MessageInitShape<typeof SessionRequestSchema>['message']>;

/** A session that is open. Sending never fails: a session that broke is told by `onClosed`. */
export interface OpenSession {
  send(message: SessionMessage): void;
  close(): void;
}

export interface SessionListener {
  onMessage(message: SessionResponse): void;
  /** Once, when the session is over. The coordinator may say after how many milliseconds to come back; 0 is whenever. `unreached`: nothing answered. */
  onClosed(why: string, afterMs?: number, unreached?: boolean): void;
}

/** How an agent reaches its coordinator. Nothing above it knows which transport it is. */
export interface AgentLink {
  readonly kind: 'grpc' | 'nats';
  openSession(hello: Hello, listener: SessionListener): OpenSession;
  readBlob: ReadBlob;
  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse>;
  /** Sends a payload from an offset; the last answer decides. Throws TransportError when the link broke. */
  submit(header: UpdateHeader, payload: Uint8Array, offset: number): Promise<SubmitUpdateResponse>;
  /** Nothing is under way, and nothing will be for a while: the connection ends, and the next session opens another. */
  rest(): Promise<void>;
  /** The other end is silent: what comes next goes over a new connection where the old one may be dead. */
  reconnect(): void;
  close(): Promise<void>;
}

/** A link to `grpc://…` or `nats://…`. Throws where the address is not on this machine. */
export function openAgentLink(url: string, agentId: string): AgentLink {
  const { kind } = requireLoopback(url);
  if (kind === 'http' || kind === 'ws')
    throw new TypeError(`'${url}' is for apps: an agent comes by grpc:// or nats://`);
  return kind === 'grpc' ? new GrpcAgentLink(url) : new NatsAgentLink(url, agentId);
}
