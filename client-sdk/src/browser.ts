// The door for browsers, by the export condition "browser".
import type { permutationImportance as importance } from './explain/permutation-importance.ts';
import { connectOn, type Client, type ConnectOptions } from './client.ts';
import { browserPlatform } from './platform/browser.ts';

export { Client } from './client.ts';
export type { ConnectOptions } from './client.ts';
export type { ReportOptions } from './reports/reporter.ts';
export { Model } from './model/model.ts';
export type { AnyModel, Held, ModelStatus, ModelTypes, Prediction } from './model/model.ts';
export type { ModelOptions } from './model/life.ts';
export type { ImportanceOptions, Importances, LabelledTable } from './explain/permutation-importance.ts';
export type { ExplainedRow, ExplainOptions, Explanation } from './explain/explanation.ts';
export type { Bundle } from './model/bundle.ts';
export type { Contract } from './model/contract.ts';
export type { FeedbackOptions, Truth } from './model/feedback.ts';
export type { ShadowOptions } from './model/shadow.ts';
export type { ModelEvents, ModelListener, SwapReason } from './model/events.ts';
export type { Golden } from './model/golden.ts';
export type { ImageInput, ImageSource } from './images/encoded.ts';
export type { ImageOptions } from './images/image-input.ts';
export type { Pixels } from './images/resample.ts';
export type { Inputs, InputValue } from './model/inputs.ts';
export type { Nested } from './model/nested.ts';
export type { ProbationPolicy } from './model/probation.ts';
export type { Tensor, TensorData, TypedArray } from './runtime/tensor.ts';
export type { EngineName } from './runtime/engine.ts';
export type { EngineSource } from './runtime/engines.ts';
export type {
  CandidateReport,
  RowTiming,
  ServedVariant,
  VariantChoice,
  VariantName,
  VariantOptions,
} from './runtime/variant.ts';
export {
  asError,
  ContractError,
  ExplainError,
  InputError,
  isUnreached,
  ModelError,
  TransportError,
  TrustError,
} from './errors.ts';
// What agents are made of as well.
export { downloadBlob } from './connection/download.ts';
export type { BlobChunk, DownloadOptions, ReadBlob } from './connection/download.ts';
export { Backoff, sleep } from './connection/backoff.ts';
export { chunksAhead, ChunkWindow } from './connection/chunk-window.ts';
export type { BackoffOptions } from './connection/backoff.ts';
export { loadNats } from './connection/load-nats-web.ts';
export type { Nats } from './connection/load-nats.ts';
export { parseUrl, requireLoopback } from './connection/url.ts';
export type { CoordinatorUrl, LinkKind } from './connection/url.ts';
export { weightsByDeltas } from './model/by-deltas.ts';
export { BlobCache } from './cache/blob-cache.ts';
export { hex } from './hex.ts';
export { MemoryStorage } from './platform/storage.ts';
export type { Storage } from './platform/storage.ts';
export type { Platform, Sha256, TrustCrypto } from './platform/platform.ts';
export { webCrypto } from './platform/web-crypto.ts';
export { KeyPin } from './trust/key-pin.ts';
export { Ratchet } from './trust/ratchet.ts';
export { halfTensor } from './runtime/half-tensor.ts';
export { elementKind } from './runtime/tensor.ts';
export type { ElementType, TypedTensor } from './runtime/tensor.ts';

/** Which columns of a table a model relies on. It is loaded by who asks. */
export const permutationImportance: typeof importance = async (...asked) =>
  (await import('./explain/permutation-importance.ts')).permutationImportance(...asked);

/** Live models of the coordinator at `http://127.0.0.1:PORT`, or behind the NATS server at `ws://127.0.0.1:PORT`. */
export const connect = (url: string, options: ConnectOptions = {}): Promise<Client> =>
  connectOn(browserPlatform, url, options);
