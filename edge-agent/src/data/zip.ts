import { inflateRawSync } from 'node:zlib';
import { DataError } from './dataset.ts';
import { FILE_BYTES_MAX } from './read-text.ts';

const [STORED, DEFLATED] = [0, 8];
const [END_OF_DIRECTORY, ENTRY] = [0x06054b50, 0x02014b50];
const [END_LENGTH, ENTRY_LENGTH, LOCAL_LENGTH] = [22, 46, 30];
const COMMENT_MAX = 0xffff;
/** Where a size or a place is kept elsewhere, as archives over 4 GB do. */
const ELSEWHERE = 0xffffffff;

/** The files of a ZIP archive, stored or deflated, by name. Source: PKWARE's APPNOTE 4.3; NumPy writes its .npz so. */
export function filesInZip(bytes: Uint8Array, path: string): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const damaged = (what: string): DataError =>
    new DataError(`${path} is no sound ZIP archive (${what}): write it again`);
  const end = endOf(view);
  if (end === undefined) throw damaged('it has no directory');
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const files = new Map<string, Uint8Array>();
  let total = 0;
  for (let index = 0; index < count; index++) {
    if (at + ENTRY_LENGTH > bytes.length || view.getUint32(at, true) !== ENTRY)
      throw damaged('its directory is cut short');
    const method = view.getUint16(at + 10, true);
    const [packed, unpacked, local] = [20, 24, 42].map((offset) => view.getUint32(at + offset, true)) as [
      number,
      number,
      number,
    ];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true)) as [
      number,
      number,
      number,
    ];
    const name = new TextDecoder().decode(bytes.subarray(at + ENTRY_LENGTH, at + ENTRY_LENGTH + nameLength));
    if ([packed, unpacked, local].includes(ELSEWHERE)) throw damaged('it is of the kind for over 4 GB');
    total += unpacked;
    if (total > FILE_BYTES_MAX)
      throw new DataError(`${path} unpacks to over ${FILE_BYTES_MAX} bytes: cut it into several files`);
    if (local + LOCAL_LENGTH > bytes.length) throw damaged(`"${name}" lies outside of it`);
    const start = local + LOCAL_LENGTH + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const data = bytes.subarray(start, start + packed);
    if (data.length !== packed) throw damaged(`"${name}" is cut short`);
    files.set(
      name,
      contentOf(data, method, unpacked, () => damaged(`"${name}" cannot be unpacked`)),
    );
    at += ENTRY_LENGTH + nameLength + extra + comment;
  }
  return files;
}

function contentOf(data: Uint8Array, method: number, size: number, damaged: () => DataError): Uint8Array {
  if (method === STORED && data.length === size) return data;
  if (method !== DEFLATED) throw damaged();
  let content: Buffer;
  try {
    content = inflateRawSync(data, { maxOutputLength: Math.max(1, size) });
  } catch {
    throw damaged();
  }
  if (content.length !== size) throw damaged();
  return content;
}

/** Where the end of the directory begins: a comment may follow it. */
function endOf(view: DataView): number | undefined {
  const first = Math.max(0, view.byteLength - END_LENGTH - COMMENT_MAX);
  for (let at = view.byteLength - END_LENGTH; at >= first; at--) {
    if (view.getUint32(at, true) === END_OF_DIRECTORY) return at;
  }
  return undefined;
}
