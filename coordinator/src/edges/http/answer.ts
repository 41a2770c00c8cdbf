import type { ServerResponse } from 'node:http';

/** Headers of every answer. */
export const HEADERS = { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' };

/** A whole answer, unless one has begun: then it ends there. */
export function answer(
  response: ServerResponse,
  code: number,
  headers: Record<string, string | number>,
  body: Uint8Array | string = '',
): void {
  if (response.headersSent) return void response.end();
  response.writeHead(code, { ...HEADERS, ...headers }).end(body);
}

export const TEXT = { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store' };
