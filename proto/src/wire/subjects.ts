/**
 * NATS subjects. An agent publishes and subscribes only below its own id; the coordinator's replicas share the
 * work of each subject as the queue group `COORDINATOR_QUEUE`. Every payload is one protobuf message. A replica that hangs is
 * given its share all the same: whoever hears nothing asks `COORDINATOR_FIND_SUBJECT` and then that replica by its own subjects.
 */
export const COORDINATOR_QUEUE = 'cw-coordinator';

/** What an agent publishes (session) or requests (the rest); the last word names the message. */
export type AgentVerb = 'session' | 'download' | 'status' | 'submit';

/**
 * `cw.v1.agent.<id>.<verb>`: session carries SessionRequest, the others are request-reply. Any coordinator answers; with the word
 * that Welcome gave at its end, the one that has the agent's session does.
 */
export const agentSubject = (agentId: string, verb: AgentVerb, replica: string = ''): string =>
  ofReplica(`cw.v1.agent.${agentId}.${verb}`, replica);
/** What the coordinator subscribes to for one verb of all agents. */
export const anyAgentSubject = (verb: AgentVerb): string => agentSubject('*', verb);
/** `cw.v1.agent.<id>.inbox`: SessionResponse messages for an agent. */
export const agentInboxSubject = (agentId: string): string => `cw.v1.agent.${agentId}.inbox`;
/** What a coordinator publishes when it starts: empty; agents say Hello again. A hint; heartbeats find out too. */
export const COORDINATOR_STARTED_SUBJECT = 'cw.v1.coordinator.started';
/** Every coordinator answers this one, with FoundCoordinator; the request is empty. */
export const COORDINATOR_FIND_SUBJECT = 'cw.v1.coordinator.find';
/** What belongs to one replica: `subject` with the replica's word at its end, or `subject` itself for whichever the server chooses. */
export const ofReplica = (subject: string, replica: string): string =>
  replica === '' ? subject : `${subject}.${replica}`;
/** The agent id within a subject, or undefined where the subject is not an agent's. */
export const agentOfSubject = (subject: string): string | undefined => {
  const words = subject.split('.');
  return words[0] === 'cw' && words[2] === 'agent' ? words[3] : undefined;
};

/** Request-reply for SDKs: GetModelRequest, GetVariantsRequest, GetChannelRequest, ReportUseRequest and ModelServiceDownloadRequest. */
export const MODEL_GET_SUBJECT = 'cw.v1.model.get';
export const MODEL_VARIANTS_SUBJECT = 'cw.v1.model.variants';
export const MODEL_CHANNEL_SUBJECT = 'cw.v1.model.channel';
export const MODEL_REPORT_SUBJECT = 'cw.v1.model.report';
export const MODEL_DOWNLOAD_SUBJECT = 'cw.v1.model.download';
/** `cw.v1.release.<model>`: announcements, one WatchModelResponse each. A hint: the state is read with get. */
export const releaseSubject = (model: string): string => `cw.v1.release.${model}`;
/** `cw.v1.channel.<model>.<channel>`: announcements of newer records, one WatchChannelResponse each. A hint as well. */
export const channelSubject = (model: string, channel: string): string => `cw.v1.channel.${model}.${channel}`;

/** Header of a NATS reply that carries an error instead of a message: `<code> <text>`. */
export const ERROR_HEADER = 'Cw-Error';
