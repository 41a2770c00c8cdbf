import type { EngineName, VariantChoice } from '@commonweight/client-sdk';
import type { ServingOptions } from '@commonweight/edge-agent';
import { InvalidArgumentError, type Command } from 'commander';
import { label, name, number, oneOf, share as shadowShare, whole } from '../output/arguments.ts';

const CHOICES: readonly VariantChoice[] = ['auto', 'fp32', 'int8', 'int4', 'fp16'];

/** How an endpoint serves, as typed. */
export interface ServingFlags {
  channel?: string;
  label?: Record<string, string>;
  shadow?: string;
  shadowShare?: number;
  batchMax: number;
  batchDelayMs: number;
  queueMax: number;
  bodyMax: number;
  variant: string;
  variantDifferenceMax?: number;
  variantDropMax?: number;
  variantMemory?: number;
  variantData?: string;
}

/** What may run the models of an endpoint. */
export const servingEngines: readonly (EngineName | 'auto')[] = [
  'auto',
  'ort-cpu',
  'ort-cuda',
  'ort-webgpu',
  'ort-dml',
  'ort-coreml',
  'ort-web',
  'tfjs',
];

/** The options of both commands that serve. `labels` says what their labels are for. */
export const servingFlags = (command: Command, labels = 'what rollouts may know of this endpoint'): Command =>
  command
    .option('--channel <name>', 'what says which versions are served (the newest are)', name)
    .option('--label <key=value>', `${labels}, such as region=eu; repeatable`, label)
    .option(
      '--shadow <channel>',
      'a channel whose version predicts beside, for nobody to see; how far they are apart is reported',
      name,
    )
    .option(
      '--shadow-share <share>',
      'of the predictions that it makes again (all, as far as a quarter of a core goes)',
      shadowShare,
    )
    .option('--batch-max <rows>', 'rows that are predicted together; 1 turns batching off', whole(1, 4096), 32)
    .option('--batch-delay-ms <ms>', 'how long a request may wait for others to join it', number(0), 0)
    .option('--queue-max <n>', 'requests that may wait, by model', whole(1, 65_536), 512)
    .option('--body-max <MiB>', 'the largest request', whole(1, 1024), 64)
    .option(
      '--variant <form>',
      'auto measures here which is fastest; fp32; int8, int4 or fp16 at any speed',
      oneOf(...CHOICES),
      'fp32',
    )
    .option('--variant-difference-max <share>', 'how far outputs of a form may be off, of their largest value', share)
    .option(
      '--variant-drop-max <points>',
      'points of accuracy that a form may lose on data with labels (0.5)',
      number(0),
    )
    .option(
      '--variant-data <spec>',
      'data to make and judge forms by, such as "mnist?split=train" (an agent takes its own)',
    )
    .option('--variant-memory <MiB>', 'the most that a form of a model may take', whole(1, 2 ** 20));

function share(text: string): number {
  const value = number(0)(text);
  if (value <= 1) return value;
  throw new InvalidArgumentError('Give a share from 0 to 1, such as 0.05.');
}

const shareOf = ({ shadowShare: share }: ServingFlags): { share?: number } => (share === undefined ? {} : { share });

export function servingOptions(flags: ServingFlags): Partial<ServingOptions> {
  const { batchMax, batchDelayMs, queueMax, bodyMax, variant, variantMemory, variantData } = flags;
  const { variantDifferenceMax, variantDropMax } = flags;
  return {
    ...(flags.channel === undefined ? {} : { channel: flags.channel }),
    ...(flags.label === undefined ? {} : { labels: flags.label }),
    ...(flags.shadow === undefined ? {} : { shadow: { channel: flags.shadow, ...shareOf(flags) } }),
    batchMax,
    batchDelayMs,
    queueMax,
    bodyBytesMax: bodyMax * 2 ** 20,
    ...(variantData === undefined ? {} : { variantData }),
    variant: {
      choice: variant as VariantChoice,
      ...(variantDifferenceMax === undefined ? {} : { differenceMax: variantDifferenceMax }),
      ...(variantDropMax === undefined ? {} : { accuracyDropPointsMax: variantDropMax }),
      ...(variantMemory === undefined ? {} : { bytesMax: variantMemory * 2 ** 20 }),
    },
  };
}
