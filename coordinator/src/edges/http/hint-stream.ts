import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServiceError } from '../../service.ts';
import { HEADERS } from './answer.ts';

/** Apps that may watch at once; the next is asked to poll. */
export const WATCHERS_MAX = 10_000;
/** A comment this often shows that the link holds, also to proxies that end silent ones. */
const HEARTBEAT_MS = 15_000;
/** A watcher that takes nothing for this long is let go. */
const SLOW_MS = 60_000;
/** What is new is to be fetched by this many watchers a second, so that not all come at once. */
const FETCHES_PER_S = 200;
const SPREAD_MS_MAX = 60_000;

/** Something whose state has a number that rises. */
export interface HintSource {
  /** Name of the event. */
  event: string;
  /** What the number is called in it. */
  key: string;
  /** The number now. Throws ServiceError where there is no such thing: a watch of nothing would only wait. */
  first: number;
  watch(onNumber: (number: number) => void): () => void;
}

export interface HintStreams {
  /** Streams hints of the newest state. Throws ServiceError. */
  open(source: () => Promise<HintSource>, request: IncomingMessage, response: ServerResponse): Promise<void>;
}

/**
 * Server-sent events, one per new state: its number and over how many milliseconds to spread the fetch. They are hints;
 * the state is read. A slow watcher skips what is out of date: never more than one event waits for it.
 */
export function hintStreams(): HintStreams {
  let watchers = 0;
  return { open };

  async function open(
    source: () => Promise<HintSource>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    if (watchers >= WATCHERS_MAX)
      throw new ServiceError('unavailable', `${WATCHERS_MAX} apps watch already: poll, or try again later`);
    const { event, key, first, watch } = await source();
    response.writeHead(200, {
      ...HEADERS,
      'Content-Type': 'text/event-stream',
      // Nor may a proxy gather events before it hands them on.
      'Cache-Control': 'no-store, no-transform',
      'X-Accel-Buffering': 'no',
    });
    if (request.method === 'HEAD') return void response.end();
    watchers++;
    let told = lastHeard(request);
    let newest = first;
    let slowSinceMs: number | undefined;
    const tell = (): void => {
      if (newest === told || response.writableNeedDrain) return;
      told = newest;
      response.write(
        `id: ${newest}\nevent: ${event}\ndata: ${JSON.stringify({ [key]: newest, spreadMs: spread() })}\n\n`,
      );
    };
    response.write(`retry: 1000\n: heartbeat ${HEARTBEAT_MS}\n\n`);
    const stop = watch((number) => {
      newest = number;
      tell();
    });
    tell();
    const beating = setInterval(() => {
      if (!response.writableNeedDrain) {
        slowSinceMs = undefined;
        return void response.write(': \n\n');
      }
      slowSinceMs ??= performance.now();
      if (performance.now() - slowSinceMs >= SLOW_MS) response.destroy();
    }, HEARTBEAT_MS);
    response.on('drain', tell);
    response.on('close', () => {
      watchers--;
      stop();
      clearInterval(beating);
    });
  }

  function spread(): number {
    return watchers < FETCHES_PER_S ? 0 : Math.min(SPREAD_MS_MAX, Math.round((watchers / FETCHES_PER_S) * 1000));
  }
}

/** The number after which a watcher's stream broke off. */
function lastHeard({ headers }: IncomingMessage): number | undefined {
  const id = headers['last-event-id'];
  return typeof id === 'string' && /^\d{1,15}$/.test(id) ? Number(id) : undefined;
}
