/** Bytes of one request's body, unless the operator says otherwise. */
export const BODY_BYTES_MAX: number = 64 * 1024 * 1024;
/** Bytes of the JSON of a request: it is parsed on the event loop, so larger tensors come in binary. */
export const JSON_BYTES_MAX: number = 8 * 1024 * 1024;
/** How deep JSON may nest: more than any tensor has axes. */
export const JSON_DEPTH_MAX = 32;
/** Bytes of all bodies that are read or wait at once, over all connections. */
export const BYTES_IN_FLIGHT_MAX: number = 256 * 1024 * 1024;
/** Tensors, and requested outputs, of one request. */
export const TENSORS_MAX = 64;
/** Axes of a tensor. */
export const AXES_MAX = 16;
/** Characters of a request's id and of a tensor's name. */
export const TEXT_LENGTH_MAX = 256;
/** Bytes of the headers of an HTTP request. */
export const HEADER_BYTES_MAX: number = 16 * 1024;
/** Connections at once, of each protocol. */
export const CONNECTIONS_MAX = 1024;
/** Calls at once on one gRPC connection. */
export const STREAMS_MAX = 256;
/** Predictions under way at once over all gRPC connections: as many as HTTP has, with one a connection. */
export const CALLS_MAX = 1024;
/** Bytes of a gRPC message that asks for something else than a prediction: a name and a version. */
export const QUESTION_BYTES_MAX: number = 16 * 1024;
/** How long a gRPC connection may be open without a call. */
export const IDLE_MS = 300_000;
/** How long a request may take to arrive, and its answer to be fetched. */
export const REQUEST_MS = 60_000;
/** Examples of one explanation. */
export const EXPLAINED_ROWS_MAX = 16;
/** Gradients that one explanation may take, by example. */
export const EXPLAIN_STEPS_MAX = 256;
/** How often an importance may shuffle each column. */
export const IMPORTANCE_REPEATS_MAX = 20;
/** Rows that one importance may have predicted in all: those of the table, for each column and each time that it is shuffled. */
export const IMPORTANCE_PREDICTIONS_MAX = 1_000_000;
/** Explanations of one model that run or wait, importances among them. */
export const EXPLANATIONS_MAX = 4;
/** Models of one process. */
export const MODELS_MAX = 64;
/** Characters of a message that quotes what came. */
export const MESSAGE_LENGTH_MAX = 500;

/** Of connections and calls; each has its default above. */
export interface DoorLimits {
  connectionsMax: number;
  streamsMax: number;
  callsMax: number;
  requestMs: number;
}

export const DOOR_LIMITS: DoorLimits = {
  connectionsMax: CONNECTIONS_MAX,
  streamsMax: STREAMS_MAX,
  callsMax: CALLS_MAX,
  requestMs: REQUEST_MS,
};
