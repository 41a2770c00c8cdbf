/** What this server says of itself in the protocol. */
export const SERVER: { name: string; version: string; extensions: string[] } = {
  name: 'commonweight',
  version: '0.1.0',
  extensions: ['binary_tensor_data'],
};
