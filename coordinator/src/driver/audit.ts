import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { formatOf, weightsToBytes } from '@commonweight/core';
import {
  ContributionListSchema,
  encodingName,
  equalBytes,
  formatToWire,
  openManifest,
  UpdateHeaderSchema,
  type Contribution,
  type Manifest,
  type UpdateHeader,
} from '@commonweight/proto';
import { verifierOf } from '../identity/signer.ts';
import type { Rounding } from '../registry/delta-chain.ts';
import { RegistryReads, sha256, type OpenVersion } from '../registry/registry.ts';
import { gridOf, parseTaskConfig, strategyOf, type TaskConfig } from '../round/policy.ts';
import { StoreError, type StoreReads, type VersionRecord } from '../store/store.ts';
import { properMetrics } from './counters.ts';
import { meansOf, ofTask, RoundSum, type Counted } from './round-sum.ts';
import { hex, ownsId } from './task-work.ts';

/** What came of making a version again. */
export type Audit =
  | { verdict: 'same'; version: number; updates: number; totalWeight: number; parameters: number; strategy: string }
  /** The first thing that is not as the manifest says. */
  | { verdict: 'different'; version: number; difference: string }
  /** What would be needed is not there: cause and mend. */
  | { verdict: 'not-retained'; version: number; why: string };

class Different extends Error {}
class NotRetained extends Error {}

/**
 * Makes a version again from the updates that were retained of it: their ids against the list of contributions, their weights against the
 * total, and what the task's strategy makes of them and the version before against the published weights, bit for bit. 0 is the newest
 * version. Throws ServiceError where there is none, StoreError where something that it reads is damaged, and ConfigError where the strategy is
 * of a file that is not loaded.
 */
export async function auditVersion(
  store: StoreReads,
  publicKey: Uint8Array,
  { model, version }: { model: string; version: number },
): Promise<Audit> {
  const registry = new RegistryReads(store, publicKey);
  const signed = await registry.release(model, version);
  const manifest = openManifest(signed, publicKey, verifierOf(publicKey));
  const number = Number(manifest.version);
  try {
    return { verdict: 'same', version: number, ...(await madeAgain(store, registry, manifest)) };
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof Different) return { verdict: 'different', version: number, difference: message };
    const isGone = error instanceof StoreError && error.kind === 'collected';
    if (error instanceof NotRetained || isGone) return { verdict: 'not-retained', version: number, why: message };
    throw error;
  }
}

async function madeAgain(store: StoreReads, registry: RegistryReads, manifest: Manifest) {
  const { model, task, totalWeight } = manifest;
  const version = Number(manifest.version);
  if (manifest.restoredVersion > 0n) {
    const of = `version ${version} of ${model} restores version ${manifest.restoredVersion}`;
    throw new NotRetained(`${of} and is made of no updates: audit that one`);
  }
  if (task === '') throw new NotRetained(`version ${version} of ${model} was imported: it is made of no updates`);
  const headers = await headersOf(store, manifest);
  const config = await configOf(store, task);
  const { accepted } = fromBinary(ContributionListSchema, await registry.blob(manifest.contributionsDigest));
  requireSame('the total weight', total(accepted), totalWeight);
  const listed = new Map(accepted.map((one) => [hex(one.updateId), one]));
  for (const id of headers.keys()) if (!listed.has(id)) throw new Different(`update ${id} is retained and not listed`);
  for (const id of listed.keys()) if (!headers.has(id)) throw new Different(`update ${id} is listed and not retained`);
  const base = await opened(store, registry, model, version - 1);
  if (!equalBytes(base.digest, manifest.parentDigest)) throw new Different('its parent is another manifest');
  const published = await opened(store, registry, model, version);
  const parameters = base.weights.length;
  const made = await combined(store, { config, manifest, base, headers });
  for (const [id, { weight }] of listed)
    requireSame(`the weight of update ${id}`, BigInt(made.weights.get(id)!), weight);
  requireSameWeights('weight', made.improvement.weights, published.weights);
  requireSameRounding(made.rounding, published);
  requireSame('vectors that the strategy remembers', made.improvement.memory.length, published.memory.length);
  for (const [i, vector] of made.improvement.memory.entries()) {
    requireSameWeights(`value of the strategy's memory ${i}`, vector, published.memory[i]!);
  }
  requireSameMetrics(made.means, manifest.metrics);
  return { updates: listed.size, totalWeight: Number(totalWeight), parameters, strategy: manifest.strategy };
}

/** By update id, in hexadecimal. */
async function headersOf(store: StoreReads, { model, version }: Manifest): Promise<Map<string, UpdateHeader>> {
  const retained = await store.retained(model, Number(version));
  if (retained.length > 0) {
    return new Map(retained.map(({ updateId, header }) => [hex(updateId), fromBinary(UpdateHeaderSchema, header)]));
  }
  const others = await store.retainedVersions(model);
  const mend =
    others.length === 0
      ? 'create the task with --retain-updates to keep those of the next versions'
      : `those of ${others.length === 1 ? `version ${others[0]}` : `versions ${others[0]} to ${others.at(-1)}`} are`;
  throw new NotRetained(`the updates of version ${version} of ${model} were not retained: ${mend}`);
}

async function configOf(store: StoreReads, task: string): Promise<TaskConfig> {
  const record = (await store.tasks()).find((one) => one.task === task);
  if (record === undefined) throw new Different(`its task ${task} is not there`);
  return parseTaskConfig(record.configJson);
}

/** A version with its weights. Their end by policy is no damage. */
async function opened(
  store: StoreReads,
  registry: RegistryReads,
  model: string,
  version: number,
): Promise<OpenVersion> {
  const record: VersionRecord | undefined = await store.version(model, version);
  if (record?.isCollected === true) {
    throw new NotRetained(
      `the weights of version ${version} of ${model} were collected: pin versions that are to be audited`,
    );
  }
  return registry.open(model, version);
}

interface Round {
  config: TaskConfig;
  manifest: Manifest;
  base: OpenVersion;
  headers: ReadonlyMap<string, UpdateHeader>;
}

/** What the strategy makes of the updates, with the same code that published it, and in an order of its own. */
async function combined(store: StoreReads, { config, manifest, base, headers }: Round) {
  const strategy = strategyOf(config);
  requireSame('the strategy', strategy.name, manifest.strategy);
  const spoolDir = await mkdtemp(join(tmpdir(), 'commonweight-audit-'));
  const grid = gridOf(config);
  const { task } = manifest;
  const sum = new RoundSum(config, { task, strategy, grid, parameters: base.weights.length, spoolDir });
  try {
    const counted = new Map<string, Counted & { agentId: string }>();
    for (const [id, header] of headers) {
      const payload = await store.retainedPayload(header.updateId);
      requireOfRound(id, header, payload, manifest, config);
      const weight = sum.weigh(header, Number(manifest.version) - 1);
      const one = { weight, metrics: properMetrics(header.metrics), agentId: header.agentId };
      const fault = await sum.fold(header, payload, one);
      if (fault !== undefined) throw new Different(`update ${id} would be refused: ${fault}`);
      counted.set(id, one);
    }
    const root = [...headers.values()].find(({ agentId }) => config.evaluators?.includes(agentId))?.agentId;
    if (strategy.robust?.needsRoot === true && root === undefined)
      throw new Different('no update of an evaluator is among those that were retained');
    const made = await sum.combine(counted, ofTask(base, task), root);
    return { ...made, means: meansOf(counted) };
  } finally {
    await sum.close();
    await rm(spoolDir, { recursive: true, force: true });
  }
}

/** Whether an update is what its id says, and of this round: the id is the hash of who, what and on which base. */
function requireOfRound(
  id: string,
  header: UpdateHeader,
  payload: Uint8Array,
  manifest: Manifest,
  config: TaskConfig,
): void {
  const { task, round, version } = manifest;
  requireSame(`the task of update ${id}`, header.task, task);
  const { asynchronous } = strategyOf(config);
  if (asynchronous === undefined) {
    requireSame(`the round of update ${id}`, header.round, round);
    requireSame(`the base of update ${id}`, header.baseVersion, version - 1n);
  } else {
    const staleness = Number(version - 1n - header.baseVersion);
    if (header.round > round || staleness < 0 || staleness > asynchronous.stalenessMax) {
      throw new Different(`update ${id} is of round ${header.round} on version ${header.baseVersion}`);
    }
  }
  const { encoding } = formatToWire(formatOf(config));
  requireSame(`the encoding of update ${id}`, encodingName(header.encoding), encodingName(encoding));
  if (!equalBytes(sha256(payload), header.payloadDigest)) throw new Different(`update ${id} has another payload`);
  if (hex(header.updateId) !== id || !ownsId(header.agentId, header)) {
    throw new Different(`update ${id} does not have the id that its agent, round, base and payload make`);
  }
}

const total = (accepted: readonly Contribution[]): bigint => accepted.reduce((sum, { weight }) => sum + weight, 0n);

function requireSame<T extends string | number | bigint>(what: string, made: T, published: T): void {
  if (made !== published) throw new Different(`${what} is ${made} and was published as ${published}`);
}

function requireSameWeights(what: string, made: Float32Array, published: Float32Array): void {
  requireSame(`the number of values`, made.length, published.length);
  if (equalBytes(weightsToBytes(made), weightsToBytes(published))) return;
  const bits = [made, published].map((values) => new Uint32Array(values.slice().buffer)) as [Uint32Array, Uint32Array];
  const at = bits[0].findIndex((value, i) => value !== bits[1][i]);
  throw new Different(`${what} ${at} of ${made.length} is ${made[at]} and was published as ${published[at]}`);
}

/** What rounding left, and the step by which the version travels, where that was smaller. */
function requireSameRounding(made: Rounding | undefined, { manifest, remainder }: OpenVersion): void {
  requireSame(
    'what rounding left',
    made === undefined ? 'nothing' : 'a remainder',
    remainder ? 'a remainder' : 'nothing',
  );
  if (made === undefined || remainder === undefined) return;
  requireSameWeights('value of what rounding left', made.remainder, remainder);
  const delta = manifest.artifacts.find(({ role }) => role === 'delta');
  if (delta !== undefined && !equalBytes(sha256(made.step ?? new Uint8Array()), delta.digest))
    throw new Different('its delta is another');
}

function requireSameMetrics(made: Record<string, number>, published: Readonly<Record<string, number>>): void {
  for (const key of new Set([...Object.keys(made), ...Object.keys(published)])) {
    requireSame(`the mean of ${key}`, made[key] ?? Number.NaN, published[key] ?? Number.NaN);
  }
}
