import { randomUUID } from 'node:crypto';
import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, headers, type Msg, type NatsConnection } from '@nats-io/transport-node';
import {
  agentInboxSubject,
  agentOfSubject,
  AgentServiceDownloadRequestSchema,
  AgentServiceDownloadResponseSchema,
  anyAgentSubject,
  channelSubject,
  COORDINATOR_FIND_SUBJECT,
  COORDINATOR_QUEUE,
  COORDINATOR_STARTED_SUBJECT,
  ERROR_HEADER,
  FoundCoordinatorSchema,
  GetChannelRequestSchema,
  GetChannelResponseSchema,
  GetModelRequestSchema,
  GetModelResponseSchema,
  GetUpdateStatusRequestSchema,
  GetUpdateStatusResponseSchema,
  GetVariantsRequestSchema,
  GetVariantsResponseSchema,
  MODEL_CHANNEL_SUBJECT,
  MODEL_DOWNLOAD_SUBJECT,
  MODEL_GET_SUBJECT,
  MODEL_REPORT_SUBJECT,
  MODEL_VARIANTS_SUBJECT,
  ModelServiceDownloadRequestSchema,
  ModelServiceDownloadResponseSchema,
  ofReplica,
  releaseSubject,
  REPORT_BYTES_MAX,
  ReportUseRequestSchema,
  ReportUseResponseSchema,
  SessionRequestSchema,
  SubmitUpdateRequestSchema,
  SubmitUpdateResponseSchema,
  WatchChannelResponseSchema,
  WatchModelResponseSchema,
  toBytes,
} from '@commonweight/proto';
import { CHUNK_BYTES_MAX } from '@commonweight/proto';
import { ERROR_LENGTH_MAX, ServiceError, type CoordinatorService } from '../../service.ts';
import { chunkTurn } from '../pace.ts';
import { NatsSessions } from './sessions.ts';

/** Messages of one subject that are worked on at once; the rest waits. */
const AT_ONCE_MAX = 64;
/** How long messages of one subject are worked on before whatever else waits has its turn. */
const TURN_MS = 5;
const CONNECT_TIMEOUT_MS = 2_000;
const PING_INTERVAL_MS = 5_000;
const RECONNECT_MS = 500;
/** How long what is under way may take to end when the edge closes. */
const DRAIN_MS = 2_000;

/** Serves agents and apps over a NATS server: core subscriptions in a queue group, so that replicas share the work. */
export async function serveNats(
  service: CoordinatorService,
  { url, log = () => {} }: { url: string; log?: (line: string) => void },
): Promise<{ close(): Promise<void> }> {
  const connection = await connected(url);
  const isAway = absence(connection);
  const publish = (subject: string, payload: Uint8Array): void => {
    if (!isAway()) connection.publish(subject, payload);
  };
  // Of this process and connection: what an agent sends to it is for no other replica.
  const replica = randomUUID();
  const sessions = new NatsSessions(service, (agentId, payload) => publish(agentInboxSubject(agentId), payload), {
    replica,
  });
  // What any replica may answer, and what is for this one alone.
  const ours = (subject: string): string[] => [subject, ofReplica(subject, replica)];
  const reply = replier(service, connection, { isAway, log });

  const hear = async (message: Msg): Promise<void> =>
    sessions.receive(agentOf(message), decoded(service, SessionRequestSchema, message));
  for (const subject of ours(anyAgentSubject('session'))) each(connection, subject, hear, log);
  reply(ours(anyAgentSubject('status')), GetUpdateStatusRequestSchema, GetUpdateStatusResponseSchema, ({ updateId }) =>
    service.updateStatus(updateId),
  );
  reply(
    ours(anyAgentSubject('submit')),
    SubmitUpdateRequestSchema,
    SubmitUpdateResponseSchema,
    async ({ header, offset, data }, message) => {
      if (header === undefined)
        throw new ServiceError('invalid', 'every chunk of an upload over NATS carries the header');
      await chunkTurn();
      service.addBytes('up', header.task, message.data.length);
      return service.submitChunk(agentOf(message), header, Number(offset), data);
    },
  );
  const download = async ({ digest, offset, length }: { digest: Uint8Array; offset: bigint; length: bigint }) => {
    const lengthMax = length === 0n ? CHUNK_BYTES_MAX : Math.min(Number(length), CHUNK_BYTES_MAX);
    await chunkTurn();
    const { data, totalSize } = await service.readBlob(digest, Number(offset), lengthMax);
    service.addBytes('down', undefined, data.length);
    return { offset, totalSize: BigInt(totalSize), data };
  };
  reply(
    ours(anyAgentSubject('download')),
    AgentServiceDownloadRequestSchema,
    AgentServiceDownloadResponseSchema,
    async (request) => create(AgentServiceDownloadResponseSchema, await download(request)),
  );
  reply(
    ours(MODEL_DOWNLOAD_SUBJECT),
    ModelServiceDownloadRequestSchema,
    ModelServiceDownloadResponseSchema,
    async (request) => create(ModelServiceDownloadResponseSchema, await download(request)),
  );
  reply(ours(MODEL_GET_SUBJECT), GetModelRequestSchema, GetModelResponseSchema, async ({ model, version }) =>
    create(GetModelResponseSchema, { release: await service.getModel(model, Number(version)) }),
  );
  reply(
    ours(MODEL_VARIANTS_SUBJECT),
    GetVariantsRequestSchema,
    GetVariantsResponseSchema,
    async ({ model, version }) => {
      const variants = await service.getVariants(model, Number(version));
      return create(GetVariantsResponseSchema, variants === undefined ? {} : { variants });
    },
  );
  reply(ours(MODEL_CHANNEL_SUBJECT), GetChannelRequestSchema, GetChannelResponseSchema, async ({ model, channel }) =>
    create(GetChannelResponseSchema, { record: await service.getChannel(model, channel) }),
  );
  reply(ours(MODEL_REPORT_SUBJECT), ReportUseRequestSchema, ReportUseResponseSchema, async ({ reports }, { data }) => {
    if (data.length > REPORT_BYTES_MAX)
      throw new ServiceError('invalid', `a report has up to ${REPORT_BYTES_MAX} bytes`);
    return create(ReportUseResponseSchema, { nextAfterMs: await service.reportUse(reports) });
  });
  // In no queue group: the one that the server would choose may hang.
  const found = toBinary(FoundCoordinatorSchema, create(FoundCoordinatorSchema, { replica }));
  connection.subscribe(COORDINATOR_FIND_SUBJECT, {
    callback: (_, message) => void (isAway() || message.respond(found)),
  });
  const stopReleases = service.watchReleases((model, release) => {
    const message = create(WatchModelResponseSchema, { release });
    publish(releaseSubject(model), toBinary(WatchModelResponseSchema, message));
  });
  const stopChannels = service.watchChannels((model, channel, record) => {
    const message = create(WatchChannelResponseSchema, { record });
    publish(channelSubject(model, channel), toBinary(WatchChannelResponseSchema, message));
  });
  // Agents of a coordinator that was here before would notice with their next heartbeat only.
  connection.publish(COORDINATOR_STARTED_SUBJECT);
  // Subscriptions are at the server when this returns.
  await connection.flush();
  return {
    close: async () => {
      stopReleases();
      stopChannels();
      sessions.close();
      // A server that is gone takes nothing more, and one that is stopped does not say so.
      const drained = connection.isClosed() ? Promise.resolve() : connection.drain().catch(() => {});
      await Promise.race([drained, sleep(DRAIN_MS)]);
      await connection.close();
    },
  };
}

async function connected(url: string): Promise<NatsConnection> {
  const servers = url.replace(/^nats:\/\//, '').split(',');
  try {
    return await connect({
      servers,
      name: 'commonweight coordinator',
      ignoreClusterUpdates: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_MS,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: 2,
    });
  } catch (cause) {
    throw new Error(
      `cannot reach the NATS server ${url} (${(cause as Error).message}): start it, or leave out --nats`,
      { cause },
    );
  }
}

/** Whether the server is away: nothing is sent then, for what matters is asked for again, and the client would keep it without limit. */
function absence(connection: NatsConnection): () => boolean {
  let isAway = false;
  const follow = async (): Promise<void> => {
    for await (const { type } of connection.status()) {
      if (type === 'disconnect') isAway = true;
      if (type === 'reconnect') isAway = false;
    }
  };
  void follow();
  return () => isAway || connection.isClosed();
}

const agentOf = (message: Msg): string => agentOfSubject(message.subject) ?? '';

/** Works on each message of a subject, a bounded number at once. */
function each(
  connection: NatsConnection,
  subject: string,
  work: (message: Msg) => Promise<void>,
  log: (line: string) => void,
): void {
  const subscription = connection.subscribe(subject, { queue: COORDINATOR_QUEUE });
  const run = async (): Promise<void> => {
    const busy = new Set<Promise<void>>();
    let turnEndsMs = performance.now() + TURN_MS;
    for await (const message of subscription) {
      // Messages that are here already come one after the other, and nothing else would have its turn before the last of thousands.
      if (performance.now() > turnEndsMs) {
        await new Promise((resolve) => setImmediate(resolve));
        turnEndsMs = performance.now() + TURN_MS;
      }
      const done: Promise<void> = work(message)
        .catch((error: unknown) => log(`NATS ${message.subject}: ${(error as Error).message}`))
        .finally(() => busy.delete(done));
      busy.add(done);
      if (busy.size >= AT_ONCE_MAX) await Promise.race(busy);
    }
  };
  void run();
}

/** The message in some bytes; those of which there is none are the sender's fault, and counted. */
function decoded<D extends DescMessage>(service: CoordinatorService, schema: D, { data }: Msg): MessageShape<D> {
  try {
    return fromBinary(schema, data, { readUnknownFields: false });
  } catch (cause) {
    service.addUndecodable();
    throw new ServiceError('invalid', `not a ${schema.typeName}: ${(cause as Error).message}`, { cause });
  }
}

function replier(
  service: CoordinatorService,
  connection: NatsConnection,
  { isAway, log }: { isAway: () => boolean; log: (line: string) => void },
) {
  return <I extends DescMessage, O extends DescMessage>(
    subjects: readonly string[],
    input: I,
    output: O,
    answer: (request: MessageShape<I>, message: Msg) => Promise<MessageShape<O>>,
  ): void => {
    const work = async (message: Msg): Promise<void> => {
      try {
        const request = decoded(service, input, message);
        const response = toBytes(output, await answer(request, message));
        if (!isAway()) message.respond(response);
      } catch (error) {
        const refusal = headers();
        const code = error instanceof ServiceError ? error.code : 'internal';
        const text = (error as Error).message.replace(/[\r\n]+/g, ' ').slice(0, ERROR_LENGTH_MAX);
        refusal.set(ERROR_HEADER, `${code} ${text}`);
        if (!isAway()) message.respond(new Uint8Array(), { headers: refusal });
      }
    };
    for (const subject of subjects) each(connection, subject, work, log);
  };
}
