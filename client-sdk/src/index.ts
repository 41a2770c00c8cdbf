export { Client } from './client.ts';
export type { ConnectOptions } from './client.ts';
export { connect } from './connect.ts';
export type { ReportOptions } from './reports/reporter.ts';
export { Model } from './model/model.ts';
export type { AnyModel, Held, ModelStatus, ModelTypes, Prediction } from './model/model.ts';
export type { ModelOptions, ModelParts } from './model/life.ts';
export { permutationImportance } from './explain/permutation-importance.ts';
export type { ImportanceOptions, Importances, LabelledTable } from './explain/permutation-importance.ts';
export type { ExplainedRow, ExplainOptions, Explanation } from './explain/explanation.ts';
export type { Bundle } from './model/bundle.ts';
export type { Golden } from './model/golden.ts';
export type { ProbationPolicy } from './model/probation.ts';
export type { Contract } from './model/contract.ts';
export type { FeedbackOptions, Truth } from './model/feedback.ts';
export type { ShadowOptions } from './model/shadow.ts';
export type { ModelEvents, ModelListener, SwapReason } from './model/events.ts';
export type { ImageInput, ImageSource } from './images/encoded.ts';
export type { ImageOptions } from './images/image-input.ts';
export type { Pixels } from './images/resample.ts';
export type { Inputs, InputValue } from './model/inputs.ts';
export type { Nested } from './model/nested.ts';
export type { Feeds, Tensor, TensorData, TypedArray } from './runtime/tensor.ts';
export type {
  AccuracyBeside,
  CandidateReport,
  LabelledFeeds,
  RowTiming,
  ServedVariant,
  VariantChoice,
  VariantName,
  VariantOptions,
} from './runtime/variant.ts';
export { madeUpInputs } from './runtime/example-inputs.ts';
export {
  asError,
  isUnreached,
  ContractError,
  ExplainError,
  InputError,
  ModelError,
  TransportError,
  TrustError,
  WorkerLostError,
} from './errors.ts';
export type { TransportCode } from './errors.ts';
// What agents and the command line are made of as well.
export { openModelLink } from './connection/model-link.ts';
export type { ModelLink } from './connection/model-link.ts';
export { downloadBlob } from './connection/download.ts';
export type { BlobChunk, DownloadOptions, ReadBlob } from './connection/download.ts';
export { Backoff, sleep } from './connection/backoff.ts';
export { chunksAhead, ChunkWindow } from './connection/chunk-window.ts';
export type { BackoffOptions } from './connection/backoff.ts';
export { parseUrl, requireLoopback } from './connection/url.ts';
export type { CoordinatorUrl, LinkKind } from './connection/url.ts';
export { openGrpcChannel } from './connection/grpc-channel.ts';
export type {
  BidiStream,
  CallOptions,
  ClientStream,
  GrpcChannel,
  MethodOf,
  ServerStream,
} from './connection/grpc-channel.ts';
export { openNats } from './connection/nats-connection.ts';
export { loadNats } from './connection/load-nats.ts';
export type { Nats } from './connection/load-nats.ts';
export { findCoordinator, isAway, natsRequest, NatsRequests } from './connection/nats-request.ts';
export type { OpenNatsOptions } from './connection/nats-request.ts';
export { verifyEd25519 } from './trust/ed25519.ts';
export { sha256 } from './trust/sha256.ts';
export { KeyPin } from './trust/key-pin.ts';
export { Ratchet } from './trust/ratchet.ts';
export { hex } from './hex.ts';
export { BlobCache } from './cache/blob-cache.ts';
export { weightsByDeltas } from './model/by-deltas.ts';
export type { DeltaSources } from './model/by-deltas.ts';
export { readIfThere, writeAtomic } from './cache/atomic-file.ts';
export { FolderStorage } from './platform/folder-storage.ts';
export { MemoryStorage } from './platform/storage.ts';
export type { Storage } from './platform/storage.ts';
export type { Platform, Sha256, TrustCrypto } from './platform/platform.ts';
export { feedbackFiles } from './feedback/feedback-folder.ts';
export { exampleIn, type LabelledExample } from './feedback/feedback-line.ts';
export { nodePlatform } from './platform/node.ts';
export { Deviations, placeOfLargest } from './runtime/deviation.ts';
export { halfTensor } from './runtime/half-tensor.ts';
export { webCrypto } from './platform/web-crypto.ts';
export { OrtEngine } from './runtime/ort-engine.ts';
export type { Engine, EngineName, Session } from './runtime/engine.ts';
export type { EngineSource } from './runtime/engines.ts';
// What engines of other packages are made of.
export { deviceName, gpuDeviceName } from './runtime/node-engines.ts';
export { probeIn, type FromProbe } from './runtime/engine-probe.ts';
export { serveRequests } from './runtime/serve-requests.ts';
export { startThread } from './runtime/start-thread.ts';
export { WorkerEngine } from './runtime/worker-engine.ts';
export type { WorkerRequest } from './runtime/messages.ts';
export { elementKind, zeros } from './runtime/tensor.ts';
export type { ElementType, TypedTensor } from './runtime/tensor.ts';
