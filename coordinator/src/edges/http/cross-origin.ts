import type { IncomingMessage, ServerResponse } from 'node:http';

/** Pages that may read models: those of this machine, or of the origins that were named; `*` is all. */
export type Origins = readonly string[];

const LOOPBACK_ORIGIN = /^https?:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;

/**
 * The headers of CORS for models and blobs. By default only pages of this machine may read them: a model is somebody's,
 * and any site that a browser shows could ask 127.0.0.1 for it.
 */
export function allowOrigin(request: IncomingMessage, response: ServerResponse, origins: Origins): void {
  response.setHeader('Vary', 'Origin');
  const { origin } = request.headers;
  if (origin === undefined) return;
  if (!isAllowed(origin, origins)) return;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Expose-Headers', 'Content-Range, ETag, Retry-After');
  // A page that is isolated, as threads in WebAssembly want it, takes only what says this.
  response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
}

/** Whether pages of an origin may read models, and say how they do. */
export const isAllowed = (origin: string, origins: Origins): boolean =>
  LOOPBACK_ORIGIN.test(origin) || origins.includes(origin) || origins.includes('*');

/** The answer to what a browser asks before it sends headers of a page's own. */
export const PREFLIGHT: Record<string, string> = {
  'Access-Control-Allow-Methods': 'GET, HEAD',
  'Access-Control-Allow-Headers': 'If-None-Match, Last-Event-ID, Range',
  'Access-Control-Max-Age': '7200',
};

/** The same, before a page sends a report. */
export const reportPreflight: Record<string, string> = {
  'Access-Control-Allow-Methods': 'POST',
  'Access-Control-Allow-Headers': 'Content-Type',
  'Access-Control-Max-Age': '7200',
};
