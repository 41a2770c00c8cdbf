import type { ModelNeeds } from '@commonweight/core';
import type { ReleaseCache } from '../cache/release-cache.ts';
import type { Backoff } from '../connection/backoff.ts';
import type { ModelLink } from '../connection/model-link.ts';
import type { DecodeImage } from '../images/encoded.ts';
import type { TrustCrypto } from '../platform/platform.ts';
import type { ChosenVariant, VariantSubject } from '../runtime/choose-variant.ts';
import type { PublishableName } from '../runtime/variant.ts';
import type { Engine } from '../runtime/engine.ts';
import type { UseCounts } from '../reports/use-counts.ts';
import type { RecentInputs } from '../runtime/example-inputs.ts';
import type { ChannelRatchet } from '../trust/channel-ratchet.ts';
import type { KeyPin } from '../trust/key-pin.ts';
import type { Ratchet } from '../trust/ratchet.ts';
import type { Who } from '../trust/rollout.ts';
import type { Bundle } from './bundle.ts';
import type { ModelEmitter } from './events.ts';
import type { Feedback, FeedbackOptions } from './feedback.ts';
import type { Golden } from './golden.ts';
import type { ProbationPolicy } from './probation.ts';
import type { Quarantine } from './quarantine.ts';
import type { Shadow, ShadowOptions } from './shadow.ts';

export interface ModelOptions {
  /** Which of the model's channels says what serves; `latest` is always the newest version. */
  channel?: string;
  /** How long `model()` waits for a first version. */
  readyTimeoutMs?: number;
  /** Silence after which a model says that it is stale. */
  staleAfterMs?: number;
  /** What a model's releases may take on disk; two have to fit. */
  diskBytesMax?: number;
  /** `availability` loads the next version beside the one that serves; `resource` lets go of that one first, and calls wait. */
  swap?: 'availability' | 'resource';
  /** Where two versions would take more memory than this, they are swapped as with `resource`. */
  memoryBytesMax?: number;
  /** How long a call waits while a version is swapped as with `resource`. */
  queueMs?: number;
  /** When a version that serves is kept, and when it is taken back. */
  probation?: Partial<ProbationPolicy>;
  /** What a version has to answer well before it serves. */
  golden?: Golden;
  /** The release that comes with the app. */
  bootstrap?: () => Bundle | Promise<Bundle>;
  /** A version that predicts beside the one that serves, for nobody to see; how far they are apart is reported. */
  shadow?: boolean | ShadowOptions;
  /** Whether predictions are remembered, so that the app may say later what would have been right. Only then are inputs kept. */
  feedback?: boolean | FeedbackOptions;
  newBackoff?: () => Backoff;
}

/** What decides on the form of a version. */
export interface Variants {
  choose(subject: VariantSubject): Promise<ChosenVariant>;
  /** Whether it wants to know what apps ask. */
  needsExamples: boolean;
  /** Whether a form that is published may be chosen at all. */
  isWanted(name: PublishableName): boolean;
  /** Whether any engine here has what a form needs. */
  isRun(needs: ModelNeeds): boolean;
}

export interface ModelParts {
  name: string;
  link: ModelLink;
  engine: Engine;
  pin: KeyPin;
  crypto: TrustCrypto;
  ratchet: Ratchet;
  cache: ReleaseCache;
  quarantine: Quarantine;
  /** What says which version serves; without it, the newest does. */
  channel?: { name: string; ratchet: ChannelRatchet };
  who: Who;
  /** How image files become pixels on this platform. */
  decodeImage?: DecodeImage;
  /** What becomes of what an app says of predictions, where that is switched on. */
  feedback?: (life: Life) => Feedback;
  /** A version that predicts beside, where one is wanted. */
  shadow?: {
    open(life: Life, options: ShadowOptions): Shadow;
    /** Follows a channel of its own for it. Gives what ends that. */
    watch(life: Life, shadow: Shadow, channel: string): () => void;
  };
  /** Which form of each version serves; without it, the one that was published. */
  variants?: Variants;
  /** A worker of its own for explanations, which must not hold up predictions. */
  openEngine(): Engine;
}

/** What all that happens to one model has in common, from its opening to its end. */
export interface Life extends ModelParts {
  options: ModelOptions;
  emitter: ModelEmitter;
  /** What apps asked lately, where somebody wants to know. */
  recent: RecentInputs | undefined;
  /** How versions do here. */
  uses: UseCounts;
  /** Aborts when the model is closed. */
  closed: AbortSignal;
}
