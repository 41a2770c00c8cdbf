// The door for browsers, by the export condition "browser".
import { connectOn, type Client, type ConnectOptions } from './client.ts';
import { browserPlatform } from './platform/browser.ts';

export { Client } from './client.ts';
export type { ConnectOptions } from './client.ts';
export { Model } from './model/model.ts';
export type { AnyModel, Held, ModelOptions, ModelStatus, ModelTypes, Prediction } from './model/model.ts';
export type { Bundle } from './model/bundle.ts';
export type { Contract } from './model/contract.ts';
export type { ModelEvents, ModelListener, SwapReason } from './model/events.ts';
export type { Golden } from './model/golden.ts';
export type { Inputs } from './model/inputs.ts';
export type { ProbationPolicy } from './model/probation.ts';
export type { Tensor, TensorData, TypedArray } from './runtime/tensor.ts';
export { ContractError, InputError, ModelError, TransportError, TrustError } from './errors.ts';

/** Live models of the coordinator at `http://127.0.0.1:PORT`, or behind the NATS server at `ws://127.0.0.1:PORT`. */
export const connect = (url: string, options: ConnectOptions = {}): Promise<Client> =>
  connectOn(browserPlatform, url, options);
