import { isLabelValue, isName, LABELS_MAX, LATEST } from '@commonweight/proto';
import { ReleaseCache } from './cache/release-cache.ts';
import { openClientId } from './client-id.ts';
import type { ModelLink } from './connection/model-link.ts';
import { ModelError } from './errors.ts';
import { within } from './connection/backoff.ts';
import type { FeedbackStore } from './feedback/feedback-folder.ts';
import type { FeedbackOptions } from './model/feedback.ts';
import type { DecodeImage } from './images/encoded.ts';
import type { ModelOptions, ModelParts, Variants } from './model/life.ts';
import { Model, type AnyModel, type ModelTypes } from './model/model.ts';
import { Quarantine } from './model/quarantine.ts';
import type { Platform, Sha256, TrustCrypto } from './platform/platform.ts';
import type { Storage } from './platform/storage.ts';
import { Reporter, type ReportOptions } from './reports/reporter.ts';
import type { ChooserParts } from './runtime/choose-variant.ts';
import type { Engine, EngineName } from './runtime/engine.ts';
import { Engines, enginesFor, type EngineSource } from './runtime/engines.ts';
import { isOf, type VariantOptions } from './runtime/variant.ts';
import { ChannelRatchet } from './trust/channel-ratchet.ts';
import { KeyPin } from './trust/key-pin.ts';
import { Ratchet } from './trust/ratchet.ts';
import type { Who } from './trust/rollout.ts';

/** How long the runtime of shadows may take to end. */
const SHADOW_MS = 2_000;

/** How a client is set up; what is said of models here holds for those of which nothing else is said. */
export interface ConnectOptions extends Omit<ModelOptions, 'bootstrap' | 'golden'> {
  /** Folder for verified releases, one per coordinator (in a browser the name of a cache); with it an app starts without the network. */
  cacheDir?: string;
  /** Raw Ed25519 key of the coordinator. Without it the first key met is trusted. */
  trustKey?: Uint8Array;
  /** Who this installation is: rollouts are dealt out by it. Without it, a random one that is kept in `cacheDir`. */
  clientId?: string;
  /** What the app says of itself, such as `{ region: 'eu' }`, for rollouts to name. It stays here. */
  labels?: Readonly<Record<string, string>>;
  /** Whether and how often it tells the coordinator which versions do how here: counts and times, never inputs or outputs. */
  reports?: boolean | ReportOptions;
  /** Threads of one prediction. */
  threads?: number;
  /** Which form of each version serves; without it, the one that was published. */
  variant?: VariantOptions;
  /**
   * What runs models: by default `ort-cpu`, in a browser `ort-web`. With `auto`, whichever of those that work here is fastest for the model;
   * another that does not work is an error.
   */
  engine?: EngineName | 'auto';
  /** Further engines to choose from: in a browser `webGpu` of `@commonweight/client-sdk/webgpu`, in Node `tfjs` of `@commonweight/edge-agent/tfjs`. */
  engines?: readonly EngineSource[];
}

/** What a client is made of. */
export interface ClientParts {
  link: ModelLink;
  pin: KeyPin;
  engine: Engine;
  /** Another one beside it. */
  openEngine(): Engine;
  storage: Storage;
  crypto: TrustCrypto;
  decodeImage?: DecodeImage;
  /** Where labelled examples of a model are kept; undefined where nothing can be. */
  openFeedback?: (model: string, options: FeedbackOptions) => FeedbackStore | undefined;
  /** One more runtime, for versions that predict beside others. */
  openShadowEngine?: () => Engine;
  who: Who;
  variants?: Variants;
}

/** Live models of one coordinator. */
export class Client {
  readonly #parts: ClientParts;
  readonly #options: ConnectOptions;
  readonly #models = new Map<string, Promise<Model>>();
  readonly #opened = new Set<Model>();
  readonly #reporter: Reporter | undefined;
  #shadowEngine: Engine | undefined;
  #closed = false;

  constructor(parts: ClientParts, options: ConnectOptions) {
    this.#parts = parts;
    this.#options = options;
    const { link, who, crypto } = parts;
    const { reports = true } = options;
    if (reports !== false) {
      const wanted = reports === true ? {} : reports;
      this.#reporter = new Reporter({ link, clientId: who.clientId, sha256: crypto.sha256 }, wanted);
    }
  }

  /** The live model of a name and channel, once it has a version to serve. Asked twice, the same one, with the options of the first time. */
  model<T extends ModelTypes = AnyModel>(name: string, options: ModelOptions = {}): Promise<Model<T>> {
    if (this.#closed) return Promise.reject(new ModelError('the client is closed'));
    if (!isName(name))
      return Promise.reject(new ModelError(`'${name}' is not a model's name: letters, digits, - and _`));
    const { channel = LATEST } = { ...this.#options, ...options };
    if (!isName(channel))
      return Promise.reject(new ModelError(`'${channel}' is not a channel's name: letters, digits, - and _`));
    const key = `${name} ${channel}`;
    let model = this.#models.get(key);
    if (model === undefined) {
      model = this.#open(name, channel, { ...this.#options, ...options });
      this.#models.set(key, model);
      model.catch(() => this.#models.delete(key));
    }
    // The types are the app's word: what the model really takes is checked at each call.
    return model as Promise<Model<T>>;
  }

  async #open(name: string, channel: string, options: ModelOptions): Promise<Model> {
    const { link, pin, engine, storage, crypto, variants, who, openEngine, decodeImage } = this.#parts;
    const isLatest = channel === LATEST;
    const folder = isLatest ? `models/${name}` : `models/${name}/channels/${channel}`;
    const ratchet = isLatest
      ? undefined
      : await ChannelRatchet.open(crypto.sha256, { storage, path: `${folder}/revision` });
    const runtime = await engine.runtime();
    const model = new Model(
      {
        name,
        link,
        engine,
        openEngine,
        pin,
        crypto,
        ratchet: await Ratchet.open({ storage, path: `${folder}/highest` }),
        cache: new ReleaseCache(storage, folder, crypto.sha256, options.diskBytesMax),
        quarantine: await Quarantine.open(storage, folder, runtime),
        who,
        ...(decodeImage === undefined ? {} : { decodeImage }),
        ...(ratchet === undefined ? {} : { channel: { name: channel, ratchet } }),
        ...(await this.#shadowParts(name, channel, folder, options)),
        ...(await this.#feedbackParts(name, options)),
        ...(variants === undefined ? {} : { variants }),
      },
      options,
    );
    this.#opened.add(model);
    try {
      await model.start();
      const reported = { name, channel, uses: model.uses, runtime };
      this.#reporter?.add({ ...reported, version: () => model.version, variant: () => model.variant.name });
      return model;
    } catch (error) {
      this.#opened.delete(model);
      await model.close();
      throw error;
    }
  }

  /** Loaded where it is switched on: a page that does without it has fewer bytes to fetch. */
  async #feedbackParts(name: string, { feedback }: ModelOptions): Promise<Pick<ModelParts, 'feedback'>> {
    if (feedback === undefined || feedback === false) return {};
    const wanted = feedback === true ? {} : feedback;
    const { Feedback } = await import('./model/on-request.ts');
    const store = this.#parts.openFeedback?.(name, wanted);
    return { feedback: (life) => new Feedback(life, store, wanted) };
  }

  async #shadowParts(
    name: string,
    channel: string,
    folder: string,
    { shadow }: ModelOptions,
  ): Promise<Pick<ModelParts, 'shadow'>> {
    if (shadow === undefined || shadow === false) return {};
    const { storage, crypto, openShadowEngine } = this.#parts;
    const other = shadow === true ? undefined : shadow.channel;
    if (openShadowEngine === undefined) throw new ModelError('there is no runtime here for a shadow');
    if (other === channel || (other === undefined && channel === LATEST))
      throw new ModelError(
        `what is to predict beside channel ${channel} of '${name}'? Say which with shadow: { channel: 'NAME' }`,
      );
    if (other !== undefined && !isName(other))
      throw new ModelError(`'${other}' is not a channel's name: letters, digits, - and _`);
    const engine = (this.#shadowEngine ??= openShadowEngine());
    const quarantine = await Quarantine.open(storage, `${folder}/shadow`, await engine.runtime());
    const place = { storage, path: `${folder}/shadow/${other}-revision` };
    const isNamed = other !== undefined && other !== LATEST;
    const ratchet = isNamed ? await ChannelRatchet.open(crypto.sha256, place) : undefined;
    const { Shadow, watchChallenger } = await import('./model/on-request.ts');
    return {
      shadow: {
        open: (life, wanted) => new Shadow(life, engine, quarantine, wanted),
        watch: (life, beside, named) => watchChallenger(life, beside, { channel: named, ratchet }),
      },
    };
  }

  /** Ends everything; predictions that run finish first. */
  async close(): Promise<void> {
    this.#closed = true;
    // At once, so that no prediction begins any more; the link's end is what ends their downloads.
    const closing = [...this.#opened].map((model) => model.close());
    await this.#reporter?.close();
    await this.#parts.link.close();
    await Promise.all(closing);
    await Promise.allSettled(this.#models.values());
    await this.#parts.engine.close();
    // One that hangs keeps nobody.
    await within(SHADOW_MS, this.#shadowEngine?.close());
  }
}

/** A client made of what a platform has. */
export async function connectOn(platform: Platform, url: string, options: ConnectOptions): Promise<Client> {
  const { cacheDir, trustKey, threads = 1, variant, clientId, labels = {} } = options;
  const { engine = platform.engines[0].name } = options;
  requireLabels(labels);
  const engines = await enginesFor(engine, [...platform.engines, ...(options.engines ?? [])]);
  const storage = platform.openStorage(cacheDir);
  const kept = cacheDir === undefined ? {} : { storage };
  const pin = await KeyPin.open({ given: trustKey, ...kept });
  const who = { clientId: await openClientId(clientId, storage), labels };
  const openEngine = (): Engine => new Engines(engines, { threads });
  const openShadowEngine = (): Engine => new Engines(engines, { threads: 1 });
  const parts = { link: platform.openLink(url), pin, engine: openEngine(), openEngine, openShadowEngine, storage, who };
  const openFeedback = (model: string, { folder, diskBytesMax }: FeedbackOptions): FeedbackStore | undefined => {
    if (folder !== undefined && platform.openFeedback === undefined)
      throw new ModelError('a browser has no folder for feedback: leave `folder` out, and accuracy is still reported');
    const place = folder ?? (cacheDir === undefined ? undefined : `${cacheDir}/feedback/${model}`);
    return place === undefined ? undefined : platform.openFeedback?.(place, diskBytesMax);
  };
  const { decodeImage } = platform;
  const decoding = decodeImage === undefined ? {} : { decodeImage };
  const variants =
    variant === undefined && engines.length === 1
      ? {}
      : {
          variants: variantsBy({
            choice: 'fp32',
            ...variant,
            threads,
            engines,
            openEngines: (sources) => new Engines(sources, { threads }),
            makeForms: platform.makeForms,
            measured: { storage, sha256: platform.crypto.sha256 },
          }),
        };
  return new Client({ ...parts, ...decoding, openFeedback, crypto: platform.crypto, ...variants }, options);
}

/** What measures is loaded where there is something to measure. */
const variantsBy = ({ measured, ...parts }: VariantParts): Variants => ({
  choose: async (subject) => {
    const { chooseVariant } = await import('./runtime/choose-variant.ts');
    const { Measurements } = await import('./runtime/measurements.ts');
    const measurements = new Measurements(measured.storage, measured.sha256);
    return await chooseVariant(subject, { ...parts, measurements });
  },
  needsExamples: parts.choice !== 'fp32',
  isWanted: (name) => isOf(parts.choice, name),
  isRun: (needs) => parts.engines.some(({ lacks }) => lacks?.(needs) === undefined),
});

/** What a form is chosen with, and where is kept what was measured. */
interface VariantParts extends Omit<ChooserParts, 'measurements'> {
  measured: { storage: Storage; sha256: Sha256 };
}

function requireLabels(labels: Readonly<Record<string, string>>): void {
  const all = Object.entries(labels);
  const wrong = all.find(([key, value]) => !isName(key) || typeof value !== 'string' || !isLabelValue(value));
  if (wrong === undefined && all.length <= LABELS_MAX) return;
  const what = wrong === undefined ? `${all.length} labels` : `label ${wrong[0]}`;
  throw new TypeError(
    `${what}: there are up to ${LABELS_MAX}, each of up to 64 characters, and names have letters, digits, - and _`,
  );
}
