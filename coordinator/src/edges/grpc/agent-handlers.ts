import { create } from '@bufbuild/protobuf';
import type {
  sendUnaryData,
  ServerDuplexStream,
  ServerReadableStream,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  AgentServiceDownloadResponseSchema,
  SessionResponseSchema,
  type GetUpdateStatusRequest,
  type SessionRequest,
  type SessionResponse,
  type SubmitUpdateRequest,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import { ServiceError, type AgentGate, type AgentSession } from '../../service.ts';
import { returnAfterMs } from '../../return-time.ts';
import { chunkTurn } from '../pace.ts';
import { download, fail, unary } from './handlers.ts';
import { toGrpc } from './status.ts';

/** Messages that may wait for a slow agent before its session is cut: it comes again and hears the state. */
const SESSION_QUEUE_MAX = 256;

/** Sessions that are open, of one server. */
interface Sessions {
  open: number;
}

export const agentHandlers = (
  service: AgentGate,
  closing: AbortSignal,
  sessions: Sessions = { open: 0 },
): UntypedServiceImplementation => ({
  session: (call: ServerDuplexStream<SessionRequest, SessionResponse>) => {
    sessions.open += 1;
    runSession(service, call, { closing, sessions })
      .catch((error: unknown) => fail(call, error))
      .finally(() => (sessions.open -= 1));
  },
  download: download(service, (chunk) => create(AgentServiceDownloadResponseSchema, chunk)),
  getUpdateStatus: unary(({ updateId }: GetUpdateStatusRequest) => service.updateStatus(updateId)),
  submitUpdate: (
    call: ServerReadableStream<SubmitUpdateRequest, SubmitUpdateResponse>,
    callback: sendUnaryData<SubmitUpdateResponse>,
  ) => {
    submit(service, call).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toGrpc(error)),
    );
  },
});

async function runSession(
  service: AgentGate,
  call: ServerDuplexStream<SessionRequest, SessionResponse>,
  { closing, sessions }: { closing: AbortSignal; sessions: Sessions },
): Promise<void> {
  let session: AgentSession | undefined;
  let waiting = 0;
  const sink = {
    send: (message: SessionResponse) => {
      if (call.cancelled || call.destroyed) return;
      waiting++;
      call.write(message, () => waiting--);
      if (waiting > SESSION_QUEUE_MAX) fail(call, new ServiceError('resource-exhausted', 'the agent reads too slowly'));
    },
    close: (reason: string, afterMs = 0) => {
      const value = { afterMs, reason };
      call.write(create(SessionResponseSchema, { message: { case: 'comeBack', value } }));
      call.end();
    },
  };
  // Without a listener an error of the stream would end the process.
  call.on('error', () => session?.closed());
  call.on('cancelled', () => session?.closed());
  const stop = (): void => sink.close('the coordinator is stopping', returnAfterMs(sessions.open));
  closing.addEventListener('abort', stop, { once: true });
  try {
    // A stream that the iterator destroys would send no status.
    for await (const request of call.iterator({ destroyOnReturn: false }) as AsyncIterable<SessionRequest>) {
      if (session !== undefined) session.receive(request);
      else if (request.message.case === 'hello')
        session = service.connectAgent({ ...request.message.value, link: 'grpc' }, sink);
      else throw new ServiceError('invalid', 'the first message of a session must be Hello');
    }
  } finally {
    closing.removeEventListener('abort', stop);
    session?.closed();
  }
  call.end();
}

async function submit(
  service: AgentGate,
  call: ServerReadableStream<SubmitUpdateRequest, SubmitUpdateResponse>,
): Promise<SubmitUpdateResponse> {
  let header: UpdateHeader | undefined;
  let response: SubmitUpdateResponse | undefined;
  for await (const request of call as AsyncIterable<SubmitUpdateRequest>) {
    header ??= request.header;
    if (header === undefined) throw new ServiceError('invalid', 'the first message of an upload must carry the header');
    await chunkTurn();
    service.addBytes('up', header.task, request.data.length);
    response = await service.submitChunk(header.agentId, header, Number(request.offset), request.data);
    if (response.receipt !== undefined || response.accepted) break;
  }
  if (response === undefined) throw new ServiceError('invalid', 'an upload without a message');
  return response;
}
