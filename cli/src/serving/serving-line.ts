import type { ServingEvent } from '@commonweight/edge-agent';

/** What an endpoint says in one plain line. */
export function servingLine(event: ServingEvent): string {
  switch (event.type) {
    case 'listening':
      return [`serving  http://${event.http}`, ...(event.grpc === undefined ? [] : [`gRPC     ${event.grpc}`])].join(
        '\n',
      );
    case 'version':
      return `${event.model}: version ${event.version} serves as ${event.variant} on ${event.engine}, ${event.why}`;
    case 'batching':
      return event.isBatchable
        ? `${event.model}: version ${event.version} predicts requests together`
        : `${event.model}: version ${event.version} predicts each request by itself: ${event.why ?? ''}`;
    case 'waiting':
      return `${event.model}: not served yet (${event.why}); trying again in ${(event.retryMs / 1000).toFixed(1)} s`;
    case 'error':
      return `${event.model}: ${event.message}`;
  }
}
