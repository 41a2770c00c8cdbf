/** Bytes of one chunk of a blob or an update; below the 1 MB payload limit of a stock NATS server. */
export const CHUNK_BYTES_MAX: number = 512 * 1024;
/** Bytes of an update in one message over gRPC: of each upload that waits a part of a message may be kept, and there are as many as agents. */
export const UPLOAD_CHUNK_BYTES: number = 64 * 1024;
/** Bytes of one message on any link: a chunk and its header. */
export const MESSAGE_BYTES_MAX: number = 1024 * 1024 - 4096;
/** Weights up to this size travel inside the assignment, which saves small models a download. */
export const WEIGHTS_INLINE_BYTES_MAX: number = 128 * 1024;
/** Bytes of one blob (graph or weights) that anybody may store or ask for. */
export const BLOB_BYTES_MAX: number = 2 ** 31 - 1;
/** Characters of a name (model, task, agent). */
export const NAME_LENGTH_MAX = 64;
/** The channel that every model has and nobody promotes to: its newest version. */
export const LATEST = 'latest';
/** Labels that an app or an agent says of itself, and that a rollout names; conditions that an agent names. */
export const LABELS_MAX = 16;
/** Characters of the value of a label. */
export const LABEL_VALUE_LENGTH_MAX = 64;

/** Bytes of one ReportUseRequest. */
export const REPORT_BYTES_MAX: number = 64 * 1024;
/** Models of one report, and versions of each. */
export const REPORT_MODELS_MAX = 16;
export const REPORT_VERSIONS_MAX = 8;

/** Ids in one offer of an agent's outbox. */
export const OFFER_UPDATES_MAX = 64;

/** Updates that a relay may hand in as one part. */
export const PART_UPDATES_MAX = 1_000;
/** Bytes of the header of an update in a part, and of the headers in one message of it: all of a message has room. */
export const PART_HEADER_BYTES_MAX: number = 8 * 1024;

/** Bytes of one agent's calibration report: it goes as one message of its session. */
export const CALIBRATION_REPORT_BYTES_MAX: number = 512 * 1024;
/** Bins of one histogram in a calibration report: all that an agent counts in, so that sums are those of all numbers in one place. */
export const CALIBRATION_BINS_MAX = 2048;
/** Values that one calibration report may speak of. */
export const CALIBRATION_VALUES_MAX = 4096;

/** True for names that are safe in a NATS subject, a URL and a file name: letters, digits, `-` and `_`. */
export function isName(name: string): boolean {
  return name.length <= NAME_LENGTH_MAX && /^[A-Za-z0-9_-]+$/.test(name);
}

/** True for what may stand behind a label's name: anything that is seen, and spaces within. */
export function isLabelValue(value: string): boolean {
  return value.length <= LABEL_VALUE_LENGTH_MAX && /^[^\s\p{C}]([^\p{C}]*[^\s\p{C}])?$/u.test(value);
}
