import { nodePlatform, type Engine, type Platform } from '@commonweight/client-sdk';

/** Node, but for what runs models. */
export const withEngine = (open: () => Engine): Platform => ({
  ...nodePlatform,
  engines: [{ ...nodePlatform.engines[0], open }],
});
