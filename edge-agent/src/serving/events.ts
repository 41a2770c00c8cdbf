import type { EngineName, SwapReason } from '@commonweight/client-sdk';

/** What a serving process tells who runs it. */
export type ServingEvent =
  | { type: 'listening'; http: string; grpc: string | undefined }
  | {
      type: 'version';
      model: string;
      version: number;
      variant: string;
      engine: EngineName;
      why: string;
      reason: SwapReason;
    }
  | { type: 'batching'; model: string; version: number; isBatchable: boolean; why?: string }
  | { type: 'waiting'; model: string; why: string; retryMs: number }
  | { type: 'error'; model: string; message: string };
