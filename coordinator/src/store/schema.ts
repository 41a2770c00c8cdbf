/** The schema, one entry a migration; only ever appended to. */
export const migrations: readonly string[] = [
  `
  CREATE TABLE versions (
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    signature BLOB NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    parent_digest BLOB NOT NULL,
    PRIMARY KEY (model, version),
    UNIQUE (model, parent_digest)
  ) STRICT;
  CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE blob_chunks (
    digest BLOB NOT NULL REFERENCES blobs (digest),
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    data_digest BLOB NOT NULL,
    PRIMARY KEY (digest, position)
  ) STRICT;
  CREATE TABLE receipts (
    update_id BLOB PRIMARY KEY,
    receipt BLOB NOT NULL,
    signature BLOB NOT NULL
  ) STRICT;
  CREATE TABLE tasks (
    task TEXT PRIMARY KEY,
    config_json TEXT NOT NULL,
    state TEXT NOT NULL,
    round_json TEXT NOT NULL,
    counters_json TEXT NOT NULL
  ) STRICT;
  `,
];
