/** What the engines call the same thing. */
export interface Dialect {
  bytes: string;
  /** A signed whole number of 64 bits. */
  whole: string;
  /** After a table's columns: types are checked. */
  strict: string;
}

export const sqliteDialect: Dialect = { bytes: 'BLOB', whole: 'INTEGER', strict: ' STRICT' };
export const postgresDialect: Dialect = { bytes: 'BYTEA', whole: 'BIGINT', strict: '' };

/** The schema, one entry a migration; only ever appended to. */
export const migrations: readonly ((dialect: Dialect) => string)[] = [
  ({ bytes, whole, strict }) => `
  CREATE TABLE versions (
    model TEXT NOT NULL,
    version ${whole} NOT NULL,
    manifest ${bytes} NOT NULL,
    signature ${bytes} NOT NULL,
    digest ${bytes} NOT NULL UNIQUE,
    parent_digest ${bytes} NOT NULL,
    PRIMARY KEY (model, version),
    UNIQUE (model, parent_digest)
  )${strict};
  CREATE TABLE blobs (
    digest ${bytes} PRIMARY KEY,
    size ${whole} NOT NULL
  )${strict};
  CREATE TABLE blob_chunks (
    digest ${bytes} NOT NULL REFERENCES blobs (digest),
    position ${whole} NOT NULL,
    data ${bytes} NOT NULL,
    data_digest ${bytes} NOT NULL,
    PRIMARY KEY (digest, position)
  )${strict};
  CREATE TABLE receipts (
    update_id ${bytes} PRIMARY KEY,
    receipt ${bytes} NOT NULL,
    signature ${bytes} NOT NULL
  )${strict};
  CREATE TABLE tasks (
    task TEXT PRIMARY KEY,
    config_json TEXT NOT NULL,
    state TEXT NOT NULL,
    round_json TEXT NOT NULL,
    counters_json TEXT NOT NULL
  )${strict};
  `,
  // `commits` rises with every commit of a leader, so that one whose answer was lost can be looked for.
  ({ bytes, whole, strict }) => `
  CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    epoch ${whole} NOT NULL,
    holder TEXT NOT NULL,
    renewed_ms ${whole} NOT NULL,
    commits ${whole} NOT NULL
  )${strict};
  CREATE TABLE signing_keys (
    name TEXT PRIMARY KEY,
    public_key ${bytes} NOT NULL
  )${strict};
  `,
  // What coordinators that share the work of a round say of it: rows, so that a death costs what is not in them and no more.
  ({ bytes, whole, strict }) => `
  ALTER TABLE leases ADD COLUMN replica TEXT NOT NULL DEFAULT '';
  CREATE TABLE replicas (
    replica TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    renewed_ms ${whole} NOT NULL
  )${strict};
  CREATE TABLE sessions (
    agent_id TEXT PRIMARY KEY,
    replica TEXT NOT NULL,
    hello ${bytes} NOT NULL,
    ready ${whole} NOT NULL
  )${strict};
  CREATE TABLE rounds (
    task TEXT PRIMARY KEY,
    round ${whole} NOT NULL,
    open ${whole} NOT NULL
  )${strict};
  CREATE TABLE claims (
    task TEXT NOT NULL,
    round ${whole} NOT NULL,
    agent_id TEXT NOT NULL,
    update_id ${bytes} NOT NULL,
    weight ${whole} NOT NULL,
    metrics_json TEXT NOT NULL,
    replica TEXT NOT NULL,
    kept ${whole} NOT NULL,
    PRIMARY KEY (task, round, agent_id)
  )${strict};
  CREATE TABLE partial_chunks (
    task TEXT NOT NULL,
    round ${whole} NOT NULL,
    part TEXT NOT NULL,
    position ${whole} NOT NULL,
    data ${bytes} NOT NULL,
    data_digest ${bytes} NOT NULL,
    PRIMARY KEY (task, round, part, position)
  )${strict};
  `,
  // A task's record is no blob and not signed: its own digest tells when it is damaged. Rows from before have none until they change.
  ({ bytes }) => `ALTER TABLE tasks ADD COLUMN digest ${bytes};`,
  // The newest list of a version's forms takes the place of the one before.
  ({ bytes, whole, strict }) => `
  CREATE TABLE variant_lists (
    model TEXT NOT NULL,
    version ${whole} NOT NULL,
    list ${bytes} NOT NULL,
    signature ${bytes} NOT NULL,
    PRIMARY KEY (model, version),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
  )${strict};
  `,
  // What is kept for audits, and what is not kept for ever. A blob that was collected keeps its row, so that its end is told from a loss.
  ({ bytes, whole, strict }) => `
  ALTER TABLE versions ADD COLUMN collected ${whole} NOT NULL DEFAULT 0;
  ALTER TABLE blobs ADD COLUMN collected ${whole} NOT NULL DEFAULT 0;
  CREATE TABLE pins (
    model TEXT NOT NULL,
    version ${whole} NOT NULL,
    PRIMARY KEY (model, version)
  )${strict};
  CREATE TABLE retained_updates (
    update_id ${bytes} PRIMARY KEY,
    model TEXT NOT NULL,
    version ${whole} NOT NULL,
    header ${bytes} NOT NULL,
    size ${whole} NOT NULL
  )${strict};
  CREATE INDEX retained_versions ON retained_updates (model, version);
  CREATE TABLE retained_chunks (
    update_id ${bytes} NOT NULL REFERENCES retained_updates (update_id),
    position ${whole} NOT NULL,
    data ${bytes} NOT NULL,
    data_digest ${bytes} NOT NULL,
    PRIMARY KEY (update_id, position)
  )${strict};
  `,
  // Which version who is to have, and what clients said lately of how versions do. A channel's record is signed; the digest is of the whole
  // row, for the rest is not.
  ({ bytes, whole, strict }) => `
  CREATE TABLE channels (
    model TEXT NOT NULL,
    channel TEXT NOT NULL,
    revision ${whole} NOT NULL,
    version ${whole} NOT NULL,
    candidate ${whole} NOT NULL,
    version_before ${whole} NOT NULL,
    record ${bytes} NOT NULL,
    signature ${bytes} NOT NULL,
    state_json TEXT NOT NULL,
    digest ${bytes} NOT NULL,
    PRIMARY KEY (model, channel)
  )${strict};
  CREATE TABLE report_snapshots (
    model TEXT PRIMARY KEY,
    sums_json TEXT NOT NULL,
    digest ${bytes} NOT NULL
  )${strict};
  `,
  // What gates decide on, and what rounds that make no version came to. Of a candidate that is not kept the record stays.
  ({ bytes, whole, strict }) => `
  CREATE TABLE candidates (
    model TEXT NOT NULL,
    number ${whole} NOT NULL,
    record ${bytes} NOT NULL,
    signature ${bytes} NOT NULL,
    pending ${whole} NOT NULL,
    kept ${whole} NOT NULL,
    PRIMARY KEY (model, number)
  )${strict};
  CREATE TABLE results (
    task TEXT NOT NULL,
    round ${whole} NOT NULL,
    model TEXT NOT NULL,
    record ${bytes} NOT NULL,
    signature ${bytes} NOT NULL,
    PRIMARY KEY (task, round)
  )${strict};
  CREATE INDEX model_results ON results (model);
  `,
];
