/** Opens the SDK's client and both doors of the protocol. */
import { connect, type EngineName, type ShadowOptions, type VariantOptions } from '@commonweight/client-sdk';
import type { ServingEvent } from './events.ts';
import { examplesFrom } from './example-rows.ts';
import { serveGrpc } from './grpc/server.ts';
import { serveHttp } from './http/server.ts';
import { BODY_BYTES_MAX, DOOR_LIMITS, type DoorLimits } from './limits.ts';
import { loopbackAddress, type Listening } from './listening.ts';
import { tfjs } from '../tfjs.ts';
import { ServedModels } from './served-models.ts';

export interface ServingOptions {
  /** `grpc://127.0.0.1:PORT` or `nats://127.0.0.1:PORT`. */
  coordinator: string;
  /** `HOST:PORT` of this machine; port 0 takes a free one. */
  http: string;
  /** The same for gRPC; without it there is none. */
  grpc?: string;
  models: readonly string[];
  /** What says which versions are served; the newest are. */
  channel?: string;
  /** What rollouts may know of this endpoint. */
  labels?: Readonly<Record<string, string>>;
  /** Whose versions predict beside those that are served. */
  shadow?: ShadowOptions;
  /** Folder of verified releases, of the coordinator's key and of what was measured. */
  cacheDir?: string;
  /** Of one prediction; 1 by default. */
  threads?: number;
  /** Rows of one run; 1 runs each request by itself. */
  batchMax?: number;
  /** How long a request may wait for others. */
  batchDelayMs?: number;
  /** Requests that may wait, by model. */
  queueMax?: number;
  bodyBytesMax?: number;
  /** Of connections and calls, where the defaults of `limits.ts` do not fit. */
  limits?: Partial<DoorLimits>;
  /** What runs the models; `auto` takes whichever is fastest for a model. */
  engine?: EngineName | 'auto';
  variant?: VariantOptions;
  /** Data specification, see loadDataset: rows that int8 forms are made and judged by. */
  variantData?: string;
  onEvent?: (event: ServingEvent) => void;
}

/** An endpoint that serves. */
export interface Serving {
  httpPort: number;
  grpcPort: number | undefined;
  /** Serves one more model. */
  serve(model: string): void;
  /** Refuses what waits, ends what runs, and closes. */
  close(): Promise<void>;
}

/** Begins to serve. Throws ConfigError, TypeError or an Error that names the port. */
export async function startServing(options: ServingOptions): Promise<Serving> {
  const {
    cacheDir,
    threads = 1,
    engine,
    variant,
    variantData,
    onEvent: tell = () => {},
    bodyBytesMax = BODY_BYTES_MAX,
  } = options;
  const { batchMax = 32, batchDelayMs = 0, queueMax = 512 } = options;
  const limits = { ...DOOR_LIMITS, ...options.limits };
  const httpAddress = loopbackAddress(options.http, '--serve');
  const grpcAddress = options.grpc === undefined ? undefined : loopbackAddress(options.grpc, '--serve-grpc');
  const client = await connect(options.coordinator, {
    threads,
    engines: [tfjs],
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(options.channel === undefined ? {} : { channel: options.channel }),
    ...(options.labels === undefined ? {} : { labels: options.labels }),
    ...(options.shadow === undefined ? {} : { shadow: options.shadow }),
    ...(engine === undefined ? {} : { engine }),
    ...(variant === undefined
      ? {}
      : {
          variant: {
            batches: batchMax > 1,
            ...(variantData === undefined ? {} : { examples: examplesFrom(variantData) }),
            ...variant,
          },
        }),
  });
  const models = new ServedModels({ client, tell, options: { batchMax, batchDelayMs, queueMax, runsMax: 2 } });
  const doors: Listening[] = [];
  const close = async (): Promise<void> => {
    await models.close();
    await Promise.all(doors.map((door) => door.close()));
    await client.close();
  };
  try {
    for (const model of options.models) models.serve(model);
    const http = await serveHttp(models, { ...httpAddress, bodyBytesMax, limits });
    doors.push(http);
    const grpc = grpcAddress && (await serveGrpc(models, { ...grpcAddress, bodyBytesMax, limits }));
    if (grpc !== undefined) doors.push(grpc);
    const show = (host: string, port: number): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;
    tell({
      type: 'listening',
      http: show(httpAddress.host, http.port),
      grpc: grpc && grpcAddress && show(grpcAddress.host, grpc.port),
    });
    return { httpPort: http.port, grpcPort: grpc?.port, serve: (model) => models.serve(model), close };
  } catch (error) {
    await close();
    throw error;
  }
}
