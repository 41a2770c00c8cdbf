/** What systems, resolvers and Node's fetch say where no connection came about, or the network went away under one. */
const UNREACHED =
  /\b(ECONNREFUSED|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)\b/;
const CAUSES_MAX = 5;

/** Whether an error says, or one behind it, that nothing answered. Who answers and refuses, or cuts the connection, is there. */
export function saysUnreached(error: unknown, causesMax: number = CAUSES_MAX): boolean {
  if (!(error instanceof Error) || causesMax === 0) return false;
  const { code } = error as Error & { code?: unknown };
  if (UNREACHED.test(`${typeof code === 'string' ? code : ''} ${error.message}`)) return true;
  const behind = error instanceof AggregateError ? error.errors : [error.cause];
  return behind.some((cause) => saysUnreached(cause, causesMax - 1));
}
