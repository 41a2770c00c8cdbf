import type { EngineName, Session } from './engine.ts';
import type { WorkerReply, WorkerRequest, WorkerResult } from './messages.ts';
import type { TypedTensor } from './tensor.ts';

/** What a worker runs models by. */
export interface SessionMaker {
  /** Name and version of the runtime. */
  name: string;
  create(model: string | Uint8Array, on: { threads: number; engine: EngineName }): Promise<Session>;
}

/** Performs a request and says what may be handed over with the reply. */
export type Perform = (id: number, request: WorkerRequest) => Promise<{ reply: WorkerReply; transfer: ArrayBuffer[] }>;

/** The sessions of a worker, by the numbers that requests name them by. */
export function serveRequests({ name, create }: SessionMaker): Perform {
  const sessions = new Map<number, Session>();
  let sessionsMade = 0;
  return async (id, request) => {
    try {
      const result = await perform(request);
      return { reply: { id, ...result }, transfer: buffersOf(result) };
    } catch (error) {
      return { reply: { id, error: (error as Error).message }, transfer: [] };
    }
  };

  function loaded(number: number): Session {
    const session = sessions.get(number);
    if (session === undefined) throw new Error('the session was released');
    return session;
  }

  async function perform(request: WorkerRequest): Promise<WorkerResult> {
    switch (request.kind) {
      case 'about':
        return { runtime: name };
      case 'load': {
        const session = await create(request.model, request);
        sessionsMade += 1;
        sessions.set(sessionsMade, session);
        return { session: sessionsMade };
      }
      case 'run':
        return { outputs: await loaded(request.session).run(request.feeds) };
      case 'time':
        return { ms: await meanMs(loaded(request.session), request.feeds, request.runs) };
      case 'release': {
        const session = sessions.get(request.session);
        sessions.delete(request.session);
        await session?.release();
        return { done: true };
      }
      case 'shut-down': {
        for (const session of sessions.values()) await session.release();
        sessions.clear();
        return { done: true };
      }
    }
  }
}

/** Milliseconds of a run, the mean of so many one after the other. */
export async function meanMs(session: Session, feeds: Record<string, TypedTensor>, runs: number): Promise<number> {
  const startMs = performance.now();
  for (let run = 0; run < runs; run++) await session.run(feeds);
  return (performance.now() - startMs) / runs;
}

const buffersOf = (result: WorkerResult): ArrayBuffer[] =>
  'outputs' in result
    ? Object.values(result.outputs).flatMap(({ data }) =>
        ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [],
      )
    : [];
