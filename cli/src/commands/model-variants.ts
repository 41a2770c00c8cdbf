import { openModelLink, verifyEd25519, type ModelLink } from '@commonweight/client-sdk';
import { parseVariantPolicy } from '@commonweight/coordinator';
import { calibrationMethods, readModel } from '@commonweight/core';
import {
  needsFromWire,
  openManifest,
  openVariantList,
  VariantState,
  type Manifest,
  type SignedVariantList,
  type Variant,
  type VariantCalibration,
  type VariantList,
} from '@commonweight/proto';
import type { Command } from 'commander';
import { AdminClient, withAdmin } from '../admin/admin-client.ts';
import { compareModels } from '../model/compare-models.ts';
import { CALIBRATION_AGENTS, FORM_NAMES } from '../model/form-wishes.ts';
import { fetchModel } from '../model/registered-model.ts';
import { ModelRunner, type Samples } from '../model/run-model.ts';
import { madeUpRows, readSamples } from '../model/samples.ts';
import { names, number, oneOf, talking, versionedName, whole, type VersionedName } from '../output/arguments.ts';
import { CommandError, UsageError } from '../output/failure.ts';
import { bytes, percent, table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  coordinator: string;
  json?: boolean;
  make?: string[];
  dropMax?: number;
  calibrationAgentsMin?: number;
  calibrationMethod?: string;
  measure?: boolean;
  data?: string;
  examples: number;
}

export function addModelVariants(model: Command): void {
  talking(model.command('variants'), 'grpc')
    .description('the forms of a version: list them, have them made, measure them so that they are published')
    .argument('<name>', 'a model, and with @ a version: digits@3', versionedName)
    .option('--make <forms>', `have the coordinator make ${FORM_NAMES}`, names)
    .option(...CALIBRATION_AGENTS)
    .option(
      '--calibration-method <name>',
      `how those ranges are chosen: ${calibrationMethods.join(', ')} (minmax, or as they were)`,
      oneOf(...calibrationMethods),
    )
    .option('--drop-max <points>', 'points of accuracy that a form may lose (default: 0.5)', number(0))
    .option(
      '--measure',
      'run every form and float32 here and report what was found; agents of its tasks do so by themselves',
    )
    .option('--data <spec>', 'data to measure on, such as "mnist?split=test"; without it, made-up rows')
    .option('--examples <n>', 'how many examples of the data', whole(1, 1e6), 10_000)
    .action(showVariants);
}

async function showVariants({ name: model, version }: VersionedName, options: Options): Promise<void> {
  const { make, dropMax, calibrationAgentsMin, calibrationMethod, measure, data } = options;
  const [stray] = Object.entries({ '--drop-max': dropMax, '--calibration-agents-min': calibrationAgentsMin }).flatMap(
    ([flag, value]) => (value === undefined ? [] : [flag]),
  );
  if (make === undefined && stray !== undefined) throw new UsageError(`${stray} goes with --make`);
  if (make?.includes('int8-static') !== true && calibrationMethod !== undefined) {
    throw new UsageError('--calibration-method goes with --make int8-static');
  }
  if (measure !== true && data !== undefined) throw new UsageError('--data goes with --measure');
  const link = openModelLink(options.coordinator);
  try {
    const manifest = opened(await link.getModel(model, version));
    if (make !== undefined) await makeForms(manifest, make, options);
    if (measure === true) await measureForms(link, manifest, options);
    say(manifest, listIn(await link.getVariants?.(model, Number(manifest.version))), options);
  } finally {
    await link.close();
  }
}

async function makeForms(manifest: Manifest, forms: string[], options: Options): Promise<void> {
  const { coordinator, dropMax, calibrationAgentsMin, calibrationMethod } = options;
  const policy = parseVariantPolicy({
    forms,
    ...(dropMax === undefined ? {} : { accuracyDropPointsMax: dropMax }),
    ...(calibrationAgentsMin === undefined ? {} : { calibrationAgentsMin }),
    ...(calibrationMethod === undefined ? {} : { calibrationMethod }),
  });
  await withAdmin(coordinator, (admin) => admin.makeVariants(manifest.model, Number(manifest.version), policy));
}

/** What an evaluator does: float32 and each form on the same inputs, and a report of each. */
async function measureForms(link: ModelLink, manifest: Manifest, options: Options): Promise<void> {
  const { model, version } = manifest;
  const forms = listIn(await link.getVariants?.(model, Number(version)))?.variants ?? [];
  const measurable = forms.filter(({ state }) => state !== VariantState.REFUSED);
  if (measurable.length === 0) {
    throw new CommandError(
      `version ${version} of ${model} has no forms to measure: add --make int8-dynamic,int8-blocks`,
    );
  }
  const float32 = await fetchModel(link, manifest);
  const samples =
    options.data === undefined ? madeUpRows(float32) : await readSamples(float32, options.data, options.examples);
  const runner = new ModelRunner();
  const admin = new AdminClient(options.coordinator);
  try {
    for (const { name, digest, size } of measurable) {
      const form = readModel(await link.download(digest, Number(size)));
      const { difference, agreement, accuracy } = await compareModels(runner, float32, form, samples);
      await admin.reportVariant({
        model,
        version,
        form: name,
        digest,
        measurement: {
          data: samples.source,
          examples: examplesIn(samples),
          difference,
          agreement,
          ...(accuracy === undefined ? {} : { accuracy: { float32: accuracy.before, variant: accuracy.after } }),
        },
      });
    }
  } finally {
    admin.close();
    await runner.close();
  }
}

const examplesIn = ({ batches }: Samples): bigint =>
  batches.reduce((sum, { feeds, labels }) => sum + BigInt(labels?.length ?? Object.values(feeds)[0]?.dims[0] ?? 1), 0n);

function say(manifest: Manifest, list: VariantList | undefined, options: Options): void {
  const { model, version, artifacts } = manifest;
  const output = standardOutput(options);
  const parts = artifacts.filter(({ role }) => role === 'graph' || role === 'weights');
  const size = parts.reduce((sum, artifact) => sum + Number(artifact.size), 0);
  const variants = list?.variants ?? [];
  if (output.json) {
    output.say('', { event: 'variant', model, version, variant: 'fp32', state: 'published', bytes: size });
    for (const variant of variants) output.say('', { event: 'variant', model, version, ...recordOf(variant) });
    return;
  }
  const rows = variants.map((variant) => [
    variant.name,
    STATES[variant.state] ?? '?',
    variant.size === 0n ? '' : bytes(Number(variant.size)),
    digestOf(variant).slice(0, 16),
    needsIn(variant),
    accuracyOf(variant),
    `${variant.why}${calibrationOf(variant)}`,
  ]);
  const float32 = ['fp32', 'published', bytes(size), '', '', '', 'the version as it was committed'];
  output.say(
    `${model} version ${version}\n${table(['form', 'state', 'size', 'digest', 'needs', 'accuracy', 'because'], [float32, ...rows])}`,
    {},
  );
}

const STATES: Readonly<Record<VariantState, string>> = {
  [VariantState.UNSPECIFIED]: '?',
  [VariantState.MADE]: 'made',
  [VariantState.PUBLISHED]: 'published',
  [VariantState.WITHHELD]: 'withheld',
  [VariantState.REFUSED]: 'refused',
};

const digestOf = ({ digest }: Variant): string => Buffer.from(digest).toString('hex');

const accuracyOf = ({ measurement }: Variant): string => {
  const accuracy = measurement?.accuracy;
  return accuracy === undefined ? '' : `${percent(accuracy.variant)} (fp32 ${percent(accuracy.float32)})`;
};

/** Operator sets, and of those beyond the standard the operators. */
const needsIn = ({ needs }: Variant): string =>
  (needs?.operatorSets ?? [])
    .map(({ domain, version }) => {
      if (domain === '') return `ONNX ${version}`;
      const own = needs!.operators.filter((name) => name.startsWith(`${domain}:`));
      return `${domain} ${version} (${own.map((name) => name.slice(domain.length + 1)).join(', ')})`;
    })
    .join(', ');

const calibrationOf = ({ calibration }: Variant): string =>
  calibration === undefined
    ? ''
    : `; ranges from ${calibration.examples} examples of ${calibration.agents} agents by ${methodOf(calibration)}`;

/** Lists of before it could be chosen do not say it. */
const methodOf = ({ method }: VariantCalibration): string => method || 'minmax';

const recordOf = (variant: Variant): object => {
  const { name, state, why, size, measurement } = variant;
  const { data, examples, difference, agreement, accuracy } = measurement ?? {};
  return {
    variant: name,
    state: STATES[state],
    why,
    bytes: Number(size),
    digest: digestOf(variant),
    ...(measurement === undefined ? {} : { measuredOn: data, examples, difference, agreement }),
    ...(accuracy === undefined ? {} : { accuracyFp32: accuracy.float32, accuracy: accuracy.variant }),
    ...(variant.needs === undefined ? {} : { needs: needsFromWire(variant.needs) }),
    ...(variant.calibration === undefined
      ? {}
      : {
          calibrationAgents: variant.calibration.agents,
          calibrationExamples: variant.calibration.examples,
          calibrationMethod: methodOf(variant.calibration),
        }),
  };
};

const opened = (signed: Parameters<typeof openManifest>[0]): Manifest =>
  openManifest(signed, signed.publicKey, verifyEd25519);

const listIn = (signed: SignedVariantList | undefined): VariantList | undefined =>
  signed === undefined ? undefined : openVariantList(signed, signed.publicKey, verifyEd25519);
