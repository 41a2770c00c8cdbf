/** What a relay did since its start. */
export interface RelayFigures {
  /** Agents whose session is here. */
  agents: number;
  /** Updates that agents handed in, and the bytes of their payloads. */
  updates: number;
  bytesIn: number;
  /** Payloads and parts that went up. */
  bytesUp: number;
  /** Parts that the coordinator took, and the updates in them. */
  parts: number;
  updatesInParts: number;
  /** Updates that went up by themselves. */
  single: number;
  /** Updates that have not ended. */
  kept: number;
  /** Bytes of blobs that agents got, and that were fetched for it. */
  blobBytesServed: number;
  blobBytesFetched: number;
  undecodable: number;
}

export const noFigures = (): RelayFigures => ({
  agents: 0,
  updates: 0,
  bytesIn: 0,
  bytesUp: 0,
  parts: 0,
  updatesInParts: 0,
  single: 0,
  kept: 0,
  blobBytesServed: 0,
  blobBytesFetched: 0,
  undecodable: 0,
});
