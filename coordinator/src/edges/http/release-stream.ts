import type { IncomingMessage, ServerResponse } from 'node:http';
import { fromBinary } from '@bufbuild/protobuf';
import { isName, ManifestSchema, type SignedManifest } from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { HEADERS } from './answer.ts';

/** Apps that may watch at once; the next is asked to poll. */
export const RELEASE_WATCHERS_MAX = 10_000;
/** A comment this often shows that the link holds, also to proxies that end silent ones. */
const HEARTBEAT_MS = 15_000;
/** A watcher that takes nothing for this long is let go. */
const SLOW_MS = 60_000;
/** New versions are to be fetched by this many watchers a second, so that not all come at once. */
const FETCHES_PER_S = 200;
const SPREAD_MS_MAX = 60_000;

export interface ReleaseStreams {
  /** Streams hints of a model's newest version. Throws ServiceError. */
  open(model: string, request: IncomingMessage, response: ServerResponse): Promise<void>;
}

/**
 * Server-sent events, one per new version: its number and over how many milliseconds to spread the fetch. They are hints;
 * the state is read. A slow watcher skips what is out of date: never more than one event waits for it.
 */
export function releaseStreams(service: CoordinatorService): ReleaseStreams {
  let watchers = 0;
  return { open };

  async function open(model: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isName(model)) throw new ServiceError('invalid', 'a model is named by letters, digits, - and _');
    if (watchers >= RELEASE_WATCHERS_MAX)
      throw new ServiceError('unavailable', `${RELEASE_WATCHERS_MAX} apps watch already: poll, or try again later`);
    // Answers not-found at once; a watch of nothing would only wait.
    const first = versionOf(await service.getModel(model, 0));
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
        `id: ${newest}\nevent: release\ndata: ${JSON.stringify({ version: newest, spreadMs: spread() })}\n\n`,
      );
    };
    response.write(`retry: 1000\n: heartbeat ${HEARTBEAT_MS}\n\n`);
    const stop = service.watchModel(model, (release) => {
      newest = versionOf(release);
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

const versionOf = ({ manifest }: SignedManifest): number => Number(fromBinary(ManifestSchema, manifest).version);

/** The version after which a watcher's stream broke off. */
function lastHeard({ headers }: IncomingMessage): number | undefined {
  const id = headers['last-event-id'];
  return typeof id === 'string' && /^\d{1,15}$/.test(id) ? Number(id) : undefined;
}
