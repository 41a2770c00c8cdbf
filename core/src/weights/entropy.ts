/**
 * Whole numbers, most of them small, in about as many bits as their entropy. A number is folded onto 0, 1, 2... (0, -1, 1...); what is below
 * 192 is a symbol of its own, what is larger is named by how many bits it has, and these bits but the highest follow behind all symbols. A
 * block is the table of its frequencies, the bytes of its symbols and these bits.
 */
import { CodecError } from '../errors.ts';
import { decodeSymbols, encodeSymbols, frequenciesOf, SCALE } from './asymmetric-numerals.ts';
import { BitReader, BitWriter } from './bits.ts';

/** Numbers that share a table. */
export const ENTROPY_BLOCK = 16_384;

const DIRECT = 192;
/** Bits of the smallest number that is no symbol of its own, and of the largest number. */
const BITS_MIN = 8;
const BITS_MAX = 31;
const SYMBOLS = DIRECT + BITS_MAX - BITS_MIN + 1;

/** Encodes numbers, each above -2^30 and below 2^30. */
export function encodeNumbers(numbers: Int32Array): Uint8Array {
  const symbols = new Uint8Array(numbers.length);
  const counts = new Uint32Array(SYMBOLS);
  const bits = new BitWriter();
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] ?? 0;
    const folded = number >= 0 ? 2 * number : -2 * number - 1;
    const symbol = folded < DIRECT ? folded : DIRECT + 32 - Math.clz32(folded) - BITS_MIN;
    symbols[i] = symbol;
    counts[symbol] = (counts[symbol] ?? 0) + 1;
    if (symbol >= DIRECT) bits.write(folded, bitsOf(symbol));
  }
  const frequencies = frequenciesOf(counts);
  const coded = encodeSymbols(symbols, frequencies);
  const table = tableOf(frequencies, coded.length);
  const rest = bits.bytes();
  const block = new Uint8Array(table.length + coded.length + rest.length);
  block.set(table);
  block.set(coded, table.length);
  block.set(rest, table.length + coded.length);
  return block;
}

/** Fills `into` with the numbers of the block at `start`, and gives where the next one stands. Throws CodecError where there is none. */
export function decodeNumbers(bytes: Uint8Array, start: number, into: Int32Array): number {
  const { frequencies, codedAt, codedEnd } = readTable(bytes, start);
  decodeSymbols(bytes.subarray(codedAt, codedEnd), frequencies, into);
  const bits = new BitReader(bytes, codedEnd);
  for (let i = 0; i < into.length; i++) {
    const symbol = into[i] ?? 0;
    const folded = symbol < DIRECT ? symbol : 2 ** bitsOf(symbol) + bits.read(bitsOf(symbol));
    into[i] = folded % 2 === 0 ? folded / 2 : -(folded + 1) / 2;
  }
  if (bits.end > bytes.length) throw cutShort();
  return bits.end;
}

/** Bits of the numbers that a symbol names, without the highest. */
const bitsOf = (symbol: number): number => symbol - DIRECT + BITS_MIN - 1;

/** Symbols that are there, each by its distance from the one before and its frequency; a 0 for the end; bytes of what follows. */
function tableOf(frequencies: Uint32Array, codedBytes: number): Uint8Array {
  const table: number[] = [];
  let before = -1;
  for (const [symbol, frequency] of frequencies.entries()) {
    if (frequency === 0) continue;
    writeNumber(table, symbol - before);
    writeNumber(table, frequency);
    before = symbol;
  }
  writeNumber(table, 0);
  writeNumber(table, codedBytes);
  return Uint8Array.from(table);
}

function readTable(bytes: Uint8Array, start: number): { frequencies: Uint32Array; codedAt: number; codedEnd: number } {
  const frequencies = new Uint32Array(SYMBOLS);
  let at = start;
  const next = (): number => {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) throw cutShort();
      number |= (byte & 0x7f) << shift;
      if (byte < 0x80) return number;
    }
    throw new CodecError('a table of frequencies has a number that is too large');
  };
  let total = 0;
  for (let symbol = -1; ;) {
    const distance = next();
    if (distance === 0) break;
    symbol += distance;
    const frequency = next();
    total += frequency;
    if (symbol >= SYMBOLS || frequency === 0 || total > SCALE) throw new CodecError('a table of frequencies is none');
    frequencies[symbol] = frequency;
  }
  if (total !== SCALE) throw new CodecError('a table of frequencies does not add up');
  const coded = next();
  if (at + coded > bytes.length) throw cutShort();
  return { frequencies, codedAt: at, codedEnd: at + coded };
}

/** Seven bits a byte, the lowest first; the highest bit says that there are more. */
function writeNumber(bytes: number[], number: number): void {
  let rest = number;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
}

const cutShort = (): CodecError => new CodecError('coded numbers are cut short');
