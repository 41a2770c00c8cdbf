import type { WorkerRequest } from './messages.ts';
import { serveSessions, type Runtime } from './serve-sessions.ts';

interface WorkerScope {
  addEventListener(name: 'message', listener: (event: { data: { id: number; request: WorkerRequest } }) => void): void;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

/** Serves sessions from a worker of a page. */
export function servePage(runtime: Runtime): void {
  const scope = globalThis as unknown as WorkerScope;
  const perform = serveSessions(runtime);
  scope.addEventListener('message', ({ data: { id, request } }) => {
    void perform(id, request).then(({ reply, transfer }) => scope.postMessage(reply, transfer));
  });
}
