/**
 * Symbols in about as many bits as their frequencies say, by range asymmetric numeral systems: a state from 2^23 to below 2^31, of which
 * whole bytes are shifted out. Source: Duda 2013, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with
 * compression rate of arithmetic coding".
 */
import { CodecError } from '../errors.ts';

const SCALE_BITS = 12;
/** What the frequencies of a table add up to. */
export const SCALE: number = 2 ** SCALE_BITS;
const STATE_MIN = 2 ** 23;
const STATE_BYTES = 4;

/** Frequencies that add up to SCALE, at least 1 for each symbol that is there; the commonest bears what rounding leaves. */
export function frequenciesOf(counts: Uint32Array): Uint32Array {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const frequencies = counts.map((count) => (count === 0 ? 0 : Math.max(1, Math.floor((count / total) * SCALE))));
  let left = SCALE - frequencies.reduce((sum, frequency) => sum + frequency, 0);
  while (left !== 0) {
    let commonest = 0;
    for (let symbol = 1; symbol < frequencies.length; symbol++) {
      if ((frequencies[symbol] ?? 0) > (frequencies[commonest] ?? 0)) commonest = symbol;
    }
    // Taken one at a time, so that none falls to 0.
    const change = left > 0 ? left : -1;
    frequencies[commonest] = (frequencies[commonest] ?? 0) + change;
    left -= change;
  }
  return frequencies;
}

/** The symbols as bytes: those of the last state first, lowest byte first. */
export function encodeSymbols(symbols: Uint8Array, frequencies: Uint32Array): Uint8Array {
  const starts = startsOf(frequencies);
  // Each symbol takes 12 bits at most. Written from behind, so that they are read forward.
  const bytes = new Uint8Array(STATE_BYTES + Math.ceil((symbols.length * SCALE_BITS) / 8) + 1);
  let at = bytes.length;
  let state = STATE_MIN;
  for (let i = symbols.length - 1; i >= 0; i--) {
    const symbol = symbols[i] ?? 0;
    const frequency = frequencies[symbol] ?? 0;
    const max = (STATE_MIN / SCALE) * 256 * frequency;
    for (; state >= max; state >>>= 8) bytes[--at] = state & 0xff;
    state = Math.floor(state / frequency) * SCALE + (state % frequency) + (starts[symbol] ?? 0);
  }
  at -= STATE_BYTES;
  new DataView(bytes.buffer).setUint32(at, state, true);
  return bytes.subarray(at);
}

/** Fills `into` with the symbols of some bytes. Throws CodecError where they are not those of so many. */
export function decodeSymbols(bytes: Uint8Array, frequencies: Uint32Array, into: Int32Array): void {
  if (bytes.length < STATE_BYTES) throw new CodecError('coded symbols are cut short');
  const starts = startsOf(frequencies);
  const symbolAt = new Uint8Array(SCALE);
  for (let symbol = 0; symbol < frequencies.length; symbol++) {
    symbolAt.fill(symbol, starts[symbol] ?? 0, (starts[symbol] ?? 0) + (frequencies[symbol] ?? 0));
  }
  let at = STATE_BYTES;
  let state = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  for (let i = 0; i < into.length; i++) {
    const slot = state & (SCALE - 1);
    const symbol = symbolAt[slot] ?? 0;
    into[i] = symbol;
    state = (frequencies[symbol] ?? 0) * (state >>> SCALE_BITS) + slot - (starts[symbol] ?? 0);
    for (; state < STATE_MIN && at < bytes.length; at++) state = state * 256 + (bytes[at] ?? 0);
  }
  // The state ends where it began: anything else was not written so.
  if (state !== STATE_MIN || at !== bytes.length) throw new CodecError('coded symbols are damaged');
}

function startsOf(frequencies: Uint32Array): Uint32Array {
  let start = 0;
  return frequencies.map((frequency) => (start += frequency) - frequency);
}
