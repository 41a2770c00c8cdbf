interface TextEncoderLike {
  encode(text: string): Uint8Array;
}

// Every platform has it; the types of none are loaded here.
const { TextEncoder } = globalThis as unknown as { TextEncoder: new () => TextEncoderLike };
const encoder = new TextEncoder();

/** The UTF-8 bytes of a text. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text);
