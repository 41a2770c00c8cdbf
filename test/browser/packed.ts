/** What goes between a test and its page as text: JSON with typed arrays, errors and what is undefined. */
const ARRAYS = { Float32Array, Int32Array, Uint8Array, BigInt64Array };

export const packed = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => {
    if (one instanceof Error) {
      // Neither is a property of its own.
      return { $error: Object.assign({ name: one.name, message: one.message }, one) };
    }
    const kind = Object.entries(ARRAYS).find(([, of]) => one instanceof of)?.[0];
    return kind === undefined ? one : { $array: kind, values: Array.from(one as Float32Array, String) };
  });

export const unpacked = (text: string): unknown =>
  JSON.parse(text, (_, one: unknown) => {
    if (typeof one !== 'object' || one === null) return one;
    const { $array, values, $error } = one as Partial<{ $array: keyof typeof ARRAYS; values: string[] }> &
      Partial<{ $error: Record<string, unknown> }>;
    if ($error !== undefined) return Object.assign(new Error(String($error['message'])), $error);
    if ($array === undefined || values === undefined) return one;
    return $array === 'BigInt64Array' ? BigInt64Array.from(values, BigInt) : ARRAYS[$array].from(values.map(Number));
  });
