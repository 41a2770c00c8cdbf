/** What a gRPC message says of itself in the five bytes before it. */
export interface MessageHead {
  isCompressed: boolean;
  /** Of the message as it comes. */
  bytes: number;
}

const HEAD_BYTES = 5;

/** Gives what takes a stream's pieces until the first message's head is whole, and then has it. */
export function messageHeadReader(): (piece: Uint8Array) => MessageHead | undefined {
  const head = new Uint8Array(HEAD_BYTES);
  let read = 0;
  return (piece) => {
    const part = piece.subarray(0, HEAD_BYTES - read);
    head.set(part, read);
    read += part.length;
    if (read < HEAD_BYTES) return undefined;
    return { isCompressed: head[0] === 1, bytes: new DataView(head.buffer).getUint32(1) };
  };
}
