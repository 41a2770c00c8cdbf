import { TensorProto_DataType } from '../gen/onnx/onnx_pb.ts';
import type { Numbers } from './constant.ts';
import { constantsOf, likeConstantsOf, roomFor } from './fold-site.ts';
import type { Fold, FoldSite } from './fold-site.ts';
import { targetsOf } from './fold-moving.ts';
import { stretched } from './strided.ts';
import { intAttribute } from '../nodes.ts';
import { reducedAxes } from '../shapes.ts';

/** Undefined where runtimes may differ. */
type Floats = (...numbers: number[]) => number | undefined;
type Integers = (...numbers: bigint[]) => bigint | undefined;

const { BOOL, DOUBLE, FLOAT, INT32, INT64 } = TensorProto_DataType;

/**
 * The node's function, number by number. Only what IEEE 754 fixes to the last bit has a row: sums, products, quotients
 * and roots round once, as `Math.fround` of the double does, while Exp, Tanh or a power depend on the runtime's build.
 */
const elementwise =
  (functions: { float?: Floats; integer?: Integers }): Fold =>
  (site) => {
    const { elemType, shape } = site.output;
    const constants = likeConstantsOf(site);
    const made = roomFor(site);
    if (constants === undefined || made === undefined) return undefined;
    const lists = constants.map((constant) => stretched(constant, shape));
    if (elemType === FLOAT || elemType === DOUBLE) return floatsOf(made, lists, functions.float);
    return elemType === INT32 || elemType === INT64 ? integersOf(made, lists, functions.integer) : undefined;
  };

function floatsOf(made: Numbers, lists: readonly Numbers[], compute: Floats | undefined): Numbers | undefined {
  if (compute === undefined) return undefined;
  for (let at = 0; at < made.length; at++) {
    const number = compute(...lists.map((list) => list[at] as number));
    // The sign and payload of a NaN are nobody's promise.
    if (number === undefined || Number.isNaN(number)) return undefined;
    made[at] = number;
  }
  return made;
}

/** Sums and products wrap around, as they do in the runtime. */
function integersOf(made: Numbers, lists: readonly Numbers[], compute: Integers | undefined): Numbers | undefined {
  if (compute === undefined) return undefined;
  for (let at = 0; at < made.length; at++) {
    const number = compute(...lists.map((list) => BigInt(list[at]!)));
    if (number === undefined) return undefined;
    made[at] = made instanceof BigInt64Array ? number : Number(BigInt.asIntN(32, number));
  }
  return made;
}

const comparison =
  (holds: (a: number | bigint, b: number | bigint) => boolean): Fold =>
  (site) => {
    const constants = constantsOf(site);
    if (constants === undefined || constants[0]!.elemType !== constants[1]!.elemType) return undefined;
    const [left, right] = constants.map((constant) => stretched(constant, site.output.shape)) as [Numbers, Numbers];
    return Uint8Array.from({ length: left.length }, (_, at) => Number(holds(left[at]!, right[at]!)));
  };

const logic =
  (holds: (...truths: boolean[]) => boolean): Fold =>
  (site) => {
    const constants = constantsOf(site);
    if (constants === undefined || constants.some(({ elemType }) => elemType !== BOOL)) return undefined;
    const lists = constants.map((constant) => stretched(constant, site.output.shape));
    return Uint8Array.from({ length: lists[0]!.length }, (_, at) =>
      Number(holds(...lists.map((list) => list[at] !== 0))),
    );
  };

/** Reductions of integers that leave nothing to wrap around or to round: of floats, runtimes sum in an order of their own. */
const reduction =
  (combine: (a: bigint, b: bigint) => bigint, start?: bigint): Fold =>
  (site) => {
    const data = site.constant(0);
    const made = roomFor(site);
    const axes = knownAxes(site);
    const isInteger = site.output.elemType === INT32 || site.output.elemType === INT64;
    if (data === undefined || made === undefined || axes === undefined || !isInteger) return undefined;
    const bits = 8 * made.BYTES_PER_ELEMENT;
    const totals = Array.from({ length: made.length }, () => start);
    const targets = targetsOf(data.shape, axes);
    for (let at = 0; at < targets.length; at++) {
      const [total, number] = [totals[targets[at]!], BigInt(data.data[at]!)];
      const next = total === undefined ? number : combine(total, number);
      if (!isSafe(number) || !isSafe(next) || BigInt.asIntN(bits, next) !== next) return undefined;
      totals[targets[at]!] = next;
    }
    return integersOf(made, [], () => totals.shift());
  };

function knownAxes(site: FoldSite): number[] | undefined {
  const isGiven = (site.node.input[1] ?? '') !== '';
  return isGiven && site.constant(1) === undefined ? undefined : reducedAxes(site);
}

/** Of zeros of either sign runtimes take now the one, now the other. */
const extreme =
  (choose: (a: number, b: number) => number): Floats =>
  (...numbers) => {
    const chosen = numbers.reduce((a, b) => choose(a, b));
    return chosen === 0 && numbers.some((one) => Object.is(one, 0)) && numbers.some((one) => Object.is(one, -0))
      ? undefined
      : chosen;
  };

/** Runtimes take some integers through doubles. */
const isSafe = (number: bigint): boolean => Number.isSafeInteger(Number(number));

const floored = (a: bigint, b: bigint): bigint => ((a % b) + b) % b;

/** Operators that compute. */
export const arithmeticFolds: Readonly<Record<string, Fold>> = {
  Add: elementwise({ float: (a, b) => a! + b!, integer: (a, b) => a! + b! }),
  Sub: elementwise({ float: (a, b) => a! - b!, integer: (a, b) => a! - b! }),
  Mul: elementwise({ float: (a, b) => a! * b!, integer: (a, b) => a! * b! }),
  // Without a value for what a device may stop at.
  Div: elementwise({ float: (a, b) => a! / b!, integer: (a, b) => (b === 0n ? undefined : a! / b!) }),
  // With the sign of the divisor, or with fmod=1 of the dividend.
  Mod: (site) =>
    intAttribute(site.node, 'fmod', 0) === 1
      ? elementwise({
          float: (a, b) => a! % b!,
          integer: (a, b) => (b === 0n || !isSafe(a!) || !isSafe(b!) ? undefined : a! % b!),
        })(site)
      : elementwise({ integer: (a, b) => (b === 0n ? undefined : floored(a!, b!)) })(site),
  Min: elementwise({ float: extreme(Math.min), integer: (...list) => list.reduce((a, b) => (a < b ? a : b)) }),
  Max: elementwise({ float: extreme(Math.max), integer: (...list) => list.reduce((a, b) => (a > b ? a : b)) }),
  Neg: elementwise({ float: (x) => -x!, integer: (x) => -x! }),
  Abs: elementwise({ float: (x) => Math.abs(x!), integer: (x) => (x! < 0n ? -x! : x!) }),
  Sqrt: elementwise({ float: (x) => Math.sqrt(x!) }),
  Floor: elementwise({ float: (x) => Math.floor(x!) }),
  Ceil: elementwise({ float: (x) => Math.ceil(x!) }),
  Equal: comparison((a, b) => a === b),
  Less: comparison((a, b) => a < b),
  LessOrEqual: comparison((a, b) => a <= b),
  Greater: comparison((a, b) => a > b),
  GreaterOrEqual: comparison((a, b) => a >= b),
  And: logic((a, b) => a! && b!),
  Or: logic((a, b) => a! || b!),
  Xor: logic((a, b) => a !== b),
  Not: logic((a) => !a),
  ReduceSum: reduction((a, b) => a + b, 0n),
  ReduceProd: reduction((a, b) => a * b, 1n),
  ReduceMax: reduction((a, b) => (a > b ? a : b)),
  ReduceMin: reduction((a, b) => (a < b ? a : b)),
  Cast: (site) => {
    const data = site.constant(0);
    const made = roomFor(site);
    if (data === undefined || made === undefined) return undefined;
    return castInto(made, data.data, site.output.elemType === BOOL);
  },
};

/** As C casts, where C says how: what is out of an integer's range has no value. */
function castInto(made: Numbers, data: Numbers, isTruth: boolean): Numbers | undefined {
  const bits = 8 * made.BYTES_PER_ELEMENT;
  const isFloat = made instanceof Float32Array || made instanceof Float64Array;
  for (let at = 0; at < made.length; at++) {
    const number = data[at]!;
    if (isTruth) {
      made[at] = Number(Number(number) !== 0);
    } else if (isFloat) {
      // A double between would round twice.
      if (!Number.isSafeInteger(Number(number)) && typeof number === 'bigint') return undefined;
      if (Number.isNaN(number)) return undefined;
      made[at] = Number(number);
    } else {
      if (typeof number === 'number' && !Number.isSafeInteger(Math.trunc(number))) return undefined;
      const whole = BigInt(typeof number === 'bigint' ? number : Math.trunc(number));
      const fitting = made instanceof Uint8Array ? BigInt.asUintN(bits, whole) : BigInt.asIntN(bits, whole);
      if (fitting !== whole) return undefined;
      made[at] = made instanceof BigInt64Array ? whole : Number(whole);
    }
  }
  return made;
}
