/** Why a benchmark cannot run here, in one line for who started it. */
export class BenchError extends Error {}
