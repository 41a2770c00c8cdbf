import { ScalarType, toBinary, type DescMessage, type Message, type MessageShape } from '@bufbuild/protobuf';

/** From so many bytes on a field is written by itself. */
const LARGE_BYTES = 4096;
const NOTHING = new Uint8Array();
const constants = new WeakMap<Message, Uint8Array>();

/** A message that never changes, whose bytes are made once: thousands get it. */
export function constant<D extends DescMessage>(schema: D, message: MessageShape<D>): MessageShape<D> {
  constants.set(message, toBinary(schema, message));
  return message;
}

/**
 * A message as it goes over the wire. A field `data` that is large comes last and is copied once: the library's writer doubles its buffer, fills
 * it with zeros and copies what it has, which are four passes over a chunk of half a MiB. Readers take fields in any order (Protocol Buffers,
 * Encoding, "Field Order").
 */
export function toBytes<D extends DescMessage>(schema: D, message: MessageShape<D>): Uint8Array {
  const made = constants.get(message);
  if (made !== undefined) return made;
  const field = schema.field['data'];
  const holder = message as { data?: unknown };
  const { data } = holder;
  const isPlain = field?.fieldKind === 'scalar' && field.scalar === ScalarType.BYTES && field.oneof === undefined;
  if (!isPlain || !(data instanceof Uint8Array) || data.length < LARGE_BYTES) return toBinary(schema, message);
  holder.data = NOTHING;
  let others: Uint8Array;
  try {
    others = toBinary(schema, message);
  } finally {
    holder.data = data;
  }
  const tag = [...varint(field.number * 8 + 2), ...varint(data.length)];
  const bytes = new Uint8Array(others.length + tag.length + data.length);
  bytes.set(others);
  bytes.set(tag, others.length);
  bytes.set(data, others.length + tag.length);
  return bytes;
}

/** Seven bits a byte, the lowest first, each but the last with its top bit set. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return [...bytes, rest];
}
