import { asServingError } from './errors.ts';
import type { InferAnswer, InferRequest } from './protocol/request.ts';
import type { ServedModels } from './served-models.ts';

/** Who asks, and by which way. */
export interface Asked {
  model: string;
  /** Empty: whichever serves. */
  version: string;
  protocol: 'http' | 'grpc';
  signal: AbortSignal;
}

/** One prediction for either protocol, counted whichever way it ends. Throws ServingError. */
export async function inferAs<Request extends InferRequest, Written>(
  models: ServedModels,
  { model, version, protocol, signal }: Asked,
  read: () => Request | Promise<Request>,
  write: (answer: InferAnswer, request: Request) => Written,
): Promise<Written> {
  const label = models.labelOf(model);
  models.metrics.request(label, protocol);
  try {
    const served = models.get(model);
    // Before it is read: what would find no place need not come.
    served.checkRoom();
    const request = await read();
    return write(await served.infer(request, version, signal), request);
  } catch (thrown) {
    const error = asServingError(thrown);
    models.metrics.error(label, error.reason);
    throw error;
  }
}
