export { Client, connect } from './client.ts';
export type { ConnectOptions } from './client.ts';
export { Model } from './model/model.ts';
export type { ModelParts, Prediction } from './model/model.ts';
export type { Contract } from './model/contract.ts';
export type { ModelEvents, ModelListener, SwapReason } from './model/events.ts';
export type { Inputs } from './model/inputs.ts';
export type { Tensor, TypedArray } from './runtime/tensor.ts';
export { asError, InputError, ModelError, TransportError, TrustError } from './errors.ts';
export type { TransportCode } from './errors.ts';
// What agents and the command line are made of as well.
export { openModelLink } from './connection/model-link.ts';
export type { ModelLink } from './connection/model-link.ts';
export { downloadBlob } from './connection/download.ts';
export type { BlobChunk, DownloadOptions, ReadBlob } from './connection/download.ts';
export { Backoff, sleep } from './connection/backoff.ts';
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
export { natsRequest, openNats } from './connection/nats-connection.ts';
export type { OpenNatsOptions } from './connection/nats-connection.ts';
export { verifyEd25519 } from './trust/ed25519.ts';
export { sha256 } from './trust/sha256.ts';
export { KeyPin } from './trust/key-pin.ts';
export { Ratchet } from './trust/ratchet.ts';
export { BlobCache } from './cache/blob-cache.ts';
export { readIfThere, writeAtomic } from './cache/atomic-file.ts';
export { OrtEngine } from './runtime/ort-engine.ts';
export type { Engine, Session } from './runtime/ort-engine.ts';
export { elementKind } from './runtime/tensor.ts';
export type { TypedTensor } from './runtime/tensor.ts';
