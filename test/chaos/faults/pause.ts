/** Time in which a fault is in force: its length is drawn by chance, and nothing is expected to have happened after it. */
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
