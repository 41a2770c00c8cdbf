/** What `model quantize` says of the form that it made, for people and for machines. */
import type { LayerNoise, QuantizedModel } from '@commonweight/core';
import { bytes, percent, table } from '../output/format.ts';
import type { Output } from '../output/output.ts';
import type { Comparison } from './compare-models.ts';
import type { Samples } from './run-model.ts';

type Measured = Comparison & { samples: Samples };

export interface Findings {
  file: string;
  form: string;
  accuracyDropMax: number | undefined;
  /** Of the file before and after, in bytes. */
  sizes: readonly [number, number];
  quantized: QuantizedModel;
  noise: readonly LayerNoise[];
  leftOut: readonly LayerNoise[];
  /** Whether the noise of every layer is listed. */
  isListed: boolean;
  /** Milliseconds before and after. */
  latency: readonly [number, number];
  outputs: Measured;
  /** Whether those are of data that were given for this alone. */
  isHeldOut: boolean;
  /** What ranges come from, or layers were left out by. */
  calibration: Measured | undefined;
  /** Examples of the held-out data that were among those too. */
  shared: number;
}

export function reportQuantized(findings: Findings, output: Output): void {
  const {
    file,
    form,
    accuracyDropMax,
    sizes,
    quantized,
    noise,
    leftOut,
    isListed,
    latency,
    outputs,
    isHeldOut,
    shared,
  } = findings;
  const { layers, folded } = quantized;
  const kept = quantized.kept.map((layer) =>
    leftOut.some(({ node }) => node === layer.node)
      ? { ...layer, reason: 'is too noisy for the accuracy bound' }
      : layer,
  );
  const lines = [
    `${file}: ${form}, ${layers.length} layers quantized, ${kept.length} left as they were${foldedText(folded)}`,
    table(['', 'before', 'after', ''], rowsOf(findings)),
    `outputs on ${namesOf(findings)}: largest error ${outputs.maxError.toPrecision(3)}, signal to noise ${decibelText(outputs.sqnrDb)}`,
    ...warningsOf(findings),
    ...(isListed
      ? [
          table(
            ['layer', 'operator', 'SQNR'],
            noise.map((layer) => [layer.node, layer.operator, decibelText(layer.sqnrDb)]),
          ),
        ]
      : []),
    ...kept.map(({ node, operator, reason }) => `left: ${node} (${operator}) ${reason}${noiseOf(leftOut, node)}`),
  ];
  const { calibration } = findings;
  output.say(lines.join('\n'), {
    event: 'quantized',
    file,
    form,
    bytesBefore: sizes[0],
    bytesAfter: sizes[1],
    latencyMsBefore: latency[0],
    latencyMsAfter: latency[1],
    measuredOn: outputs.samples.source,
    isHeldOut,
    ...(shared === 0 ? {} : { examplesShared: shared }),
    maxError: outputs.maxError,
    sqnrDb: outputs.sqnrDb,
    ...accuracyFields(outputs),
    ...(calibration === undefined
      ? {}
      : {
          calibration: { data: calibration.samples.source, sqnrDb: calibration.sqnrDb, ...accuracyFields(calibration) },
        }),
    ...(accuracyDropMax === undefined ? {} : { accuracyDropMax }),
    layers,
    kept,
    leftOut,
    folded,
    noise,
  });
}

function rowsOf(findings: Findings): string[][] {
  const { sizes, latency, outputs, isHeldOut, calibration } = findings;
  const speedup = latency[0] / latency[1];
  const chosenBy = calibration === undefined ? [] : accuracyRow('accuracy, calibration data', calibration);
  const accuracies = isHeldOut
    ? [...chosenBy, ...accuracyRow('accuracy, held-out data', outputs)]
    : chosenBy.length > 0
      ? chosenBy
      : accuracyRow('accuracy', outputs);
  return [
    ['size', bytes(sizes[0]), bytes(sizes[1]), `${(sizes[0] / sizes[1]).toFixed(2)}x smaller`],
    ['latency', ms(latency[0]), ms(latency[1]), `${speedup.toFixed(2)}x ${speedup < 1 ? 'as fast: SLOWER' : 'faster'}`],
    ...accuracies,
  ];
}

function accuracyRow(name: string, { accuracy, samples }: Measured): string[][] {
  if (accuracy === undefined) return [];
  const { before, after, examples } = accuracy;
  const of = `${points(after - before)} (${examples.toLocaleString('en')} of ${samples.source})`;
  return [[name, percent(before), percent(after), of]];
}

function namesOf({ calibration, outputs: { samples }, isHeldOut }: Findings): string {
  if (calibration === undefined) return samples.source;
  return isHeldOut
    ? `${samples.source}, by which nothing was chosen`
    : `${samples.source}, by which it was made (--test measures on other data)`;
}

function warningsOf({ shared, outputs, calibration, accuracyDropMax }: Findings): string[] {
  const { accuracy, samples } = outputs;
  const lines: string[] = [];
  if (shared > 0)
    lines.push(
      `note: ${shared} examples of ${samples.source} are among ${calibration?.samples.source ?? 'the others'} too`,
    );
  const drop = accuracy === undefined ? 0 : (accuracy.before - accuracy.after) * 100;
  if (accuracyDropMax !== undefined && drop > accuracyDropMax) {
    lines.push(
      `note: the bound of ${accuracyDropMax} points holds on ${calibration?.samples.source}, by which layers were chosen; on ${samples.source} ${drop.toFixed(2)} are lost: more --examples may help`,
    );
  }
  return lines;
}

const accuracyFields = ({ accuracy }: Measured): object =>
  accuracy === undefined
    ? {}
    : { accuracyBefore: accuracy.before, accuracyAfter: accuracy.after, examples: accuracy.examples };

const noiseOf = (leftOut: readonly LayerNoise[], label: string): string => {
  const layer = leftOut.find(({ node }) => node === label);
  return layer === undefined ? '' : `: ${decibelText(layer.sqnrDb)}`;
};

const foldedText = (folded: number): string =>
  folded === 0 ? '' : folded === 1 ? ', 1 node folded into a constant' : `, ${folded} nodes folded into constants`;
const ms = (value: number): string => `${value.toPrecision(3)} ms`;
const points = (share: number): string => `${share >= 0 ? '+' : ''}${(share * 100).toFixed(2)} points`;
const decibelText = (value: number): string => (Number.isFinite(value) ? `${value.toFixed(1)} dB` : 'no difference');
