import type { ChannelName } from './channels/channels.ts';
import type { Promotion } from './channels/channel.ts';
import type { Folding, Part } from './driver/parts.ts';
import type { ReportCounts } from './reports/fleet-reports.ts';
import type { VariantPolicy } from './variants/forms.ts';
import type { VariantReport } from './variants/variants.ts';
import type {
  AgentStatus,
  ChannelStatus,
  ClientReport,
  FleetStatus,
  GetUpdateStatusResponse,
  Hello,
  KeptCandidate,
  ModelSummary,
  PartHeader,
  SessionRequest,
  SessionResponse,
  SignedChannel,
  SignedManifest,
  SignedResult,
  SignedVariantList,
  SubmitPartResponse,
  SubmitUpdateResponse,
  TaskStatus,
  UpdateHeader,
} from '@commonweight/proto';

/** Why a call was refused, in terms that every edge can translate. */
export type ServiceErrorCode = 'not-found' | 'already-exists' | 'invalid' | 'unavailable' | 'resource-exhausted';

/** Characters of an error that goes over the wire: what a caller sent may be in it, and headers have a limit. */
export const ERROR_LENGTH_MAX = 1000;

/** A call that cannot be served. The message names cause and mend and is meant for the caller. */
export class ServiceError extends Error {
  override name = 'ServiceError';
  readonly code: ServiceErrorCode;

  constructor(code: ServiceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Where messages for an agent go. */
export interface AgentSink {
  send(message: SessionResponse): void;
  /** Ends the session; the agent may come back after so many milliseconds, at once without. */
  close(reason: string, afterMs?: number): void;
}

/** Where an agent's messages go. */
export interface AgentSession {
  receive(message: SessionRequest): void;
  closed(): void;
}

/** Part of a blob. */
export interface BlobPart {
  data: Uint8Array;
  totalSize: number;
}

/** Versions by what is kept of them. */
export interface KeptVersions {
  /** Graph, weights and memory were let go by policy. */
  collected: number[];
  pinned: number[];
  /** Their updates are here. */
  retained: number[];
}

/** What a rollback came to. */
export interface RolledBack {
  release: SignedManifest;
  /** The task that goes on from it; empty where none runs. */
  task: string;
}

/** What agents ask: of a coordinator, or of a relay that stands before one. */
export interface AgentGate {
  /** Begins an agent's session. A newer session of the same agent replaces the older. */
  connectAgent(hello: Hello, sink: AgentSink): AgentSession;
  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse>;
  /** Takes a chunk of an update; the last one decides. */
  submitChunk(agentId: string, header: UpdateHeader, offset: number, data: Uint8Array): Promise<SubmitUpdateResponse>;
  readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart>;
  /** Counts bytes on the wire for a task (all running ones where undefined). */
  addBytes(direction: 'up' | 'down', task: string | undefined, bytes: number): void;
  /** Counts a message whose bytes could not be decoded. */
  addUndecodable(): void;
}

/** Everything that an edge may ask of the coordinator. */
export interface CoordinatorService extends AgentGate {
  readonly publicKey: Uint8Array;
  /** How the updates of a round are folded; undefined where it takes no parts, or is over. */
  folding(task: string, round: number): Folding | undefined;
  /** Takes the sum of several updates whole, or says which of them keep it from being taken. */
  submitPart(header: PartHeader, part: Part): Promise<SubmitPartResponse>;
  /** A version of a model; 0 is the newest. */
  getModel(model: string, version: number): Promise<SignedManifest>;
  /** Calls at once with the newest version, and again at each commit. Gives what ends it. */
  watchModel(model: string, onRelease: (release: SignedManifest) => void): () => void;
  /** Calls at each commit of any model. */
  watchReleases(onRelease: (model: string, release: SignedManifest) => void): () => void;
  importModel(model: string, onnx: Uint8Array): Promise<SignedManifest>;
  listModels(): Promise<ModelSummary[]>;
  listVersions(model: string): Promise<SignedManifest[]>;
  /** What of a model's versions is here besides their manifests. */
  listKept(model: string): Promise<KeptVersions>;
  /** Keeps a version from being collected, or no longer; 0 is the newest. Gives its number. */
  pinVersion(model: string, version: number, isPinned: boolean): Promise<number>;
  /** Commits a version after the newest with what an older one has. A task that improves the model goes on from it. */
  rollbackModel(model: string, version: number): Promise<RolledBack>;
  getChannel(model: string, channel: string): Promise<SignedChannel>;
  /** Calls at once with what a channel says, and again at each change. Gives what ends it. */
  watchChannel(model: string, channel: string, onRecord: (record: SignedChannel) => void): () => void;
  /** Calls at each change of any channel. */
  watchChannels(onRecord: (model: string, channel: string, record: SignedChannel) => void): () => void;
  /** The channels of a model; of all where none is named. */
  listChannels(model: string): Promise<ChannelStatus[]>;
  /** Has a channel give a version (0 is the newest) to everybody, or to a part of its clients. */
  promoteVersion(of: ChannelName, promotion: Promotion): Promise<ChannelStatus>;
  /** Keeps a channel as it is; without a reason it goes on. */
  holdChannel(of: ChannelName, reason: string | undefined): Promise<ChannelStatus>;
  /** Ends a rollout, or goes back to a version; without one, to what was there before. */
  rollbackChannel(of: ChannelName, version: number | undefined): Promise<ChannelStatus>;
  /** Takes what a client says of its models, and says in how many milliseconds the next report is welcome. */
  reportUse(reports: readonly ClientReport[]): Promise<number>;
  /** What clients run of a model, and what they said of it; of all models where none is named. */
  getFleets(model: string): Promise<FleetStatus[]>;
  /** What became of reports since the start. */
  readonly reportCounts: ReportCounts;
  /** The forms of a version, 0 being the newest; undefined where none were made. */
  getVariants(model: string, version: number): Promise<SignedVariantList | undefined>;
  makeVariants(model: string, version: number, policy: VariantPolicy): Promise<SignedVariantList>;
  reportVariant(report: VariantReport): Promise<SignedVariantList>;
  createTask(task: string, configJson: string): Promise<TaskStatus>;
  startTask(task: string): Promise<TaskStatus>;
  pauseTask(task: string): Promise<TaskStatus>;
  getTask(task: string): Promise<TaskStatus>;
  listTasks(): Promise<TaskStatus[]>;
  /** Calls at once, and again at each change. */
  watchTask(task: string, onStatus: (status: TaskStatus) => void): () => void;
  listAgents(): Promise<AgentStatus[]>;
  /** What rounds made of a model and gates decide on, or decided. */
  listCandidates(model: string): Promise<KeptCandidate[]>;
  /** What evaluations and statistics of a task, or of a model, came to. */
  listResults(of: { task: string } | { model: string }): Promise<SignedResult[]>;
  /** Agents that were told to come back later because no task needed them, since the start. */
  readonly sentAway: number;
  /** Messages that could not be decoded, since the start. */
  readonly undecodable: number;
  /** Uploads are refused for want of room. */
  readonly diskIsFull: boolean;
  /** Tells other replicas where this one's gRPC is. */
  advertise(address: string): Promise<void>;
  close(): Promise<void>;
}
