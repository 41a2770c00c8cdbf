/** What the columns of a table are worth to a model, within the limits of an endpoint. */
import {
  elementKind,
  permutationImportance,
  type Contract,
  type Importances,
  type Inputs,
  type Model,
  type Tensor,
} from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';
import { ServingError } from './errors.ts';
import { IMPORTANCE_PREDICTIONS_MAX } from './limits.ts';
import { showSpec } from './protocol/datatypes.ts';
import type { ImportanceRequest } from './protocol/explain.ts';

/** How long the asker is worked for: while it listens, and until then by `performance.now()`. */
export interface Patience {
  signal: AbortSignal;
  untilMs: number;
}

/** The one input that a table fills, open for any number of rows. Throws ServingError where the model has none. */
export function tableInput({ inputs }: Contract): TensorSpec {
  const [spec, ...others] = inputs;
  if (spec !== undefined && others.length === 0 && spec.dtype === 'float') {
    const [rows = 0, ...row] = spec.dims;
    // A model of single rows is asked row by row.
    if ((rows < 0 || rows === 1) && row.every((dim) => dim > 0)) return { ...spec, dims: [-1, ...row] };
  }
  throw new ServingError(
    'wrong-input',
    `a table fills one input of float numbers, row by row, and the model has ${inputs.map((input) => `'${input.name}' ${showSpec(input)}`).join(', ')}: explain single examples`,
  );
}

/** Throws ServingError where labels do not fit the rows, or more would have to be predicted than may be. */
export function checkTable(
  contract: Contract,
  { data, dims }: Tensor,
  request: Omit<ImportanceRequest, 'inputs'>,
): void {
  const { labels, score, repeats } = request;
  const [rows = 0] = dims;
  if (labels.length !== rows) {
    throw new ServingError('wrong-input', `there are ${labels.length} labels for ${rows} rows: give one each`);
  }
  const predictions = rows + data.length * repeats;
  if (predictions > IMPORTANCE_PREDICTIONS_MAX) {
    throw new ServingError(
      'wrong-input',
      `${predictions} rows would have to be predicted, at most ${IMPORTANCE_PREDICTIONS_MAX} are: give fewer rows or fewer "repeats"`,
    );
  }
  if (score !== 'accuracy') return;
  const classes = classesOf(contract);
  const odd = labels.findIndex((label) => !Number.isInteger(label) || label < 0 || label >= classes);
  if (odd < 0) return;
  throw new ServingError(
    'wrong-input',
    `label ${odd} is ${labels[odd]}, and classes are whole numbers from 0 ${classes === Infinity ? 'on' : `to ${classes - 1}`}, in the order of the outputs`,
  );
}

/** How many classes the output that is scored tells apart; Infinity where its shape does not say. */
function classesOf({ outputs }: Contract): number {
  const scored = outputs.find(({ dtype }) => elementKind(dtype)?.array === Float32Array);
  const [rows = 0, ...row] = scored?.dims ?? [];
  if (rows === 0 || rows > 1 || row.some((dim) => dim < 1)) return Infinity;
  // A single number is a yes or a no.
  return Math.max(
    2,
    row.reduce((size, dim) => size * dim, 1),
  );
}

/** Asks the model for the table as it is and with each column shuffled, for as long as somebody waits. Throws ServingError, InputError or ConfigError. */
export async function weighColumns(
  model: Model,
  { data }: Tensor,
  { labels, score, repeats }: Omit<ImportanceRequest, 'inputs'>,
  { signal, untilMs }: Patience,
): Promise<Importances> {
  let told = 'none of the columns was';
  const patient = (): void => {
    if (signal.aborted) throw new ServingError('cancelled', 'the asker is gone');
    if (performance.now() < untilMs) return;
    throw new ServingError(
      'too-large',
      `${told} shuffled in the time that a request has: give fewer rows or fewer "repeats"`,
    );
  };
  const asked = {
    contract: model.contract,
    hold: () => {
      const held = model.hold();
      return {
        ...held,
        predict: async (inputs: Inputs) => {
          patient();
          return await held.predict(inputs);
        },
      };
    },
  };
  const onProgress = (done: number, of: number): void => void (told = `${done} of ${of} columns were`);
  return await permutationImportance(asked, { inputs: data as Float32Array, labels }, { score, repeats, onProgress });
}
