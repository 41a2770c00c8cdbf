import type { IncomingMessage, ServerResponse } from 'node:http';
import { fromBinary, toBinary, create } from '@bufbuild/protobuf';
import {
  REPORT_BYTES_MAX,
  ReportUseRequestSchema,
  ReportUseResponseSchema,
  type ReportUseRequest,
} from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { answer, TEXT } from './answer.ts';
import { allowOrigin, isAllowed, reportPreflight, type Origins } from './cross-origin.ts';
import { statusCodes } from './status-codes.ts';

export const REPORTS_PATH = '/v1/reports';
const TYPE = 'application/x-protobuf';

/**
 * Takes what an app says of its models: `POST /v1/reports`, a ReportUseRequest that is answered with a ReportUseResponse. A page of another
 * origin has to be allowed, as for models: its browser asks before it sends this type.
 */
export async function takeReports(
  service: CoordinatorService,
  origins: Origins,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  allowOrigin(request, response, origins);
  if (request.method === 'OPTIONS') return answer(response, 204, reportPreflight);
  const refuse = (code: number, text: string): void => {
    // What of the body is still to come is not read.
    response.setHeader('Connection', 'close');
    answer(response, code, TEXT, `${text}\n`);
  };
  if (request.method !== 'POST') {
    response.setHeader('Allow', 'POST, OPTIONS');
    return refuse(405, 'only POST');
  }
  const { origin, 'content-type': type, 'content-length': length = '0' } = request.headers;
  if (origin !== undefined && !isAllowed(origin, origins)) return refuse(403, 'pages of this origin may not report');
  if (type !== TYPE) return refuse(415, `a report is ${TYPE}`);
  const tooLong = `a report has up to ${REPORT_BYTES_MAX} bytes`;
  if (Number(length) > REPORT_BYTES_MAX) return refuse(413, tooLong);
  const body = await bodyOf(request);
  if (body === undefined) return refuse(413, tooLong);
  let reports: ReportUseRequest;
  try {
    reports = fromBinary(ReportUseRequestSchema, body, { readUnknownFields: false });
  } catch (error) {
    service.addUndecodable();
    return refuse(400, `not a report: ${(error as Error).message}`);
  }
  try {
    const nextAfterMs = await service.reportUse(reports.reports);
    const bytes = toBinary(ReportUseResponseSchema, create(ReportUseResponseSchema, { nextAfterMs }));
    answer(response, 200, { 'Content-Type': TYPE, 'Cache-Control': 'no-store', 'Content-Length': bytes.length }, bytes);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    answer(response, statusCodes[error.code], TEXT, `${error.message}\n`);
  }
}

/** The whole body, or undefined where it is too long. */
async function bodyOf(request: IncomingMessage): Promise<Uint8Array | undefined> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > REPORT_BYTES_MAX) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}
