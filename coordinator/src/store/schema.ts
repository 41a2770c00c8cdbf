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
];
