export { NotTrainableError, OnnxError } from './onnx/errors.ts';
export { readModel, writeModel } from './onnx/file.ts';
export { joinModel, layoutOf, parametersOf, splitModel } from './onnx/parameters.ts';
export type { ParameterSpec, SplitModel, WeightLayout } from './onnx/parameters.ts';
export { requireRunnable } from './onnx/runnable.ts';
export { contractOf } from './onnx/contract.ts';
export type { ModelContract, TensorSpec } from './onnx/contract.ts';
export type { ModelProto, NodeProto, TensorProto } from './onnx/gen/onnx/onnx_pb.ts';
// What an engine needs that computes graphs by itself.
export { openGraph } from './onnx/open-graph.ts';
export type { GraphBuilder } from './onnx/graph-builder.ts';
export { floatAttribute, intAttribute, intsAttribute, stringAttribute } from './onnx/nodes.ts';
export { dimsOf, floatValues, integerValues } from './onnx/tensor-data.ts';
export { transposedWindowsOf, windowsOf } from './onnx/windows.ts';
export type { Windows } from './onnx/windows.ts';
export { contractionOf } from './onnx/einsum.ts';
export { cutsOf } from './onnx/slices.ts';
export { padMatrix, resizedAxes, resizeMatrix } from './onnx/resampling.ts';
export { ancestors } from './autodiff/reachability.ts';
export { fedAvg2nn, logistic, mlp } from './models/mlp.ts';
export type { LogisticOptions, MlpOptions } from './models/mlp.ts';
export { cnn, fedAvgCnn } from './models/cnn.ts';
export type { CnnOptions } from './models/cnn.ts';
export { optimizerNames, parsePlan } from './training/plan.ts';
export { rateFactor } from './training/schedule.ts';
export type { Schedule } from './training/schedule.ts';
export type { EvaluationOptions, TrainingPlan } from './training/plan.ts';
export { lossNames } from './training/losses.ts';
export { LOSS_GRAPH_BYTES_MAX } from './training/loss-graph.ts';
export type { LossName, LossOptions } from './training/losses.ts';
export type { OptimizerPlan } from './training/optimizers.ts';
export { buildTrainingGraph } from './training/training-graph.ts';
export type { StepForms, TrainingGraph } from './training/training-graph.ts';
export { copying, inStep, stepOfEvaluation, stepOfTraining, unrolled } from './training/step-graph.ts';
export type { KeptValue, StepGraph } from './training/step-graph.ts';
export { buildEvaluationGraph, evaluationOf, MetricSums } from './training/evaluation-graph.ts';
export type { EvaluationGraph, EvaluationPlan } from './training/evaluation-graph.ts';
export type { MetricName } from './training/metrics.ts';
export { dropoutMask } from './training/dropout.ts';
export type { DropoutMask } from './training/dropout.ts';
export { checkTrainable, surveyTraining } from './training/trainability.ts';
export type { NodeVerdict } from './training/trainability.ts';
export { addLora, mergeLora } from './adapters/lora.ts';
export { parseLora } from './adapters/lora-options.ts';
export type { LoraOptions } from './adapters/lora-options.ts';
export { replaceHead } from './adapters/head.ts';
export { frontPart } from './onnx/border.ts';
export type { FrontPart } from './onnx/border.ts';
export { withPreprocess } from './preprocess/compose.ts';
export { buildPreprocess } from './preprocess/build-front.ts';
export type { PreprocessOutput, PreprocessStep } from './preprocess/build-front.ts';
export { preprocessSteps } from './preprocess/steps.ts';
export { fitsAny } from './adapters/name-pattern.ts';
export { trainOnly } from './adapters/train-only.ts';
export type { HeadOptions } from './adapters/head.ts';
export { CodecError, ConfigError, invariant } from './errors.ts';
export { BUCKETS, LogHistogram } from './sketch/log-histogram.ts';
export { addedSpreads, difference, meanOf, NO_SPREAD, spreadOf, withValue } from './sketch/spread.ts';
export type { Spread } from './sketch/spread.ts';
export { seeded } from './random/stream.ts';
export type { RandomStream } from './random/stream.ts';
export { gridFor } from './weights/grid.ts';
export type { GridSpec } from './weights/grid.ts';
export { encodings, valueEncodings } from './weights/encoding.ts';
export type { Encoding, EncodingName, StoredPayload, ValueEncodingName } from './weights/encoding.ts';
export { decodeUpdate, encodeUpdate, encodeWithFeedback, formatOf, sentLength } from './weights/update-format.ts';
export type { FormatChoice, UpdateFormat } from './weights/update-format.ts';
export { downlinkNames, publishedVersion, roundedVersion } from './weights/downlink.ts';
export type { DownlinkName } from './weights/downlink.ts';
export { encodeStep, stepped, stepping } from './weights/step.ts';
export type { Step } from './weights/step.ts';
export { weightsFromBytes, weightsToBytes } from './weights/bytes.ts';
export { ExactSum } from './aggregation/exact-sum.ts';
export type { WeightedPayload } from './aggregation/exact-sum.ts';
export type { UpdateFault } from './aggregation/update-fault.ts';
export type { RobustAggregate, RobustRule, UpdateBlocks } from './aggregation/robust/updates.ts';
export { payloadBlocks } from './aggregation/robust/payload-blocks.ts';
export { improvedByRule, improvedBySum } from './strategy/improvement.ts';
export {
  asynchronously,
  BUFFERED_UPDATES_MAX,
  FRESH_WEIGHT,
  parseAsynchronous,
  type Asynchronous,
} from './strategy/asynchronous.ts';
export { addStrategy } from './strategy/own-strategy.ts';
export { strategies, strategyFrom } from './strategy/strategy.ts';
export type {
  Improvement,
  RoundSummary,
  Strategy,
  StrategyModule,
  StrategyOptions,
  StrategyRecipe,
} from './strategy/strategy.ts';
export { localMethodOf, localMethods } from './strategy/local-methods.ts';
export type { LocalMethod, LocalState, LocalTraining } from './strategy/local-method.ts';
export { localLayers } from './weights/local-layers.ts';
export type { LocalLayers } from './weights/local-layers.ts';
export { DELTA_ONLY, pack, packedLength, unpack } from './weights/packed.ts';
export type { UpdateParts, UpdateShape } from './weights/packed.ts';
export { ditto } from './strategy/ditto.ts';
export { fedDyn } from './strategy/fed-dyn.ts';
export { fedNova } from './strategy/fed-nova.ts';
export { qFedAvg } from './strategy/q-fed-avg.ts';
export { scaffold } from './strategy/scaffold.ts';
export { fedAsync } from './strategy/fed-async.ts';
export { fedBuff } from './strategy/fed-buff.ts';
export { fedAvg } from './strategy/fed-avg.ts';
export { fedAvgM } from './strategy/fed-avg-m.ts';
export { fedAdagrad } from './strategy/fed-adagrad.ts';
export { fedAdam } from './strategy/fed-adam.ts';
export { fedYogi } from './strategy/fed-yogi.ts';
export { fedProx } from './strategy/fed-prox.ts';
export { adaptiveClipping } from './strategy/adaptive-clipping.ts';
export { bulyan } from './strategy/bulyan.ts';
export { centredClipping } from './strategy/centred-clipping.ts';
export { geometricMedian } from './strategy/geometric-median.ts';
export { krum } from './strategy/krum.ts';
export { median } from './strategy/median.ts';
export { multiKrum } from './strategy/multi-krum.ts';
export { normBound } from './strategy/norm-bound.ts';
export { normZeroing } from './strategy/norm-zeroing.ts';
export { trimmedMean } from './strategy/trimmed-mean.ts';
export { reportGrid } from './measurement/report.ts';
export { StatisticsReports, quantilesOf, shownQuantiles } from './measurement/statistics.ts';
export type { FeatureStatistics, StatisticsResult } from './measurement/statistics.ts';
export { parseStatisticsPlan } from './measurement/statistics-plan.ts';
export type { StatisticsPlan } from './measurement/statistics-plan.ts';
export { EvaluationReports } from './measurement/evaluation-report.ts';
export type { Measured } from './measurement/evaluation-report.ts';
export { quantizedForms, quantizeModel } from './quantize/quantize.ts';
export type { QuantizedForm, QuantizeOptions } from './quantize/quantize.ts';
export type { KeptLayer, LayerId, QuantizedModel } from './quantize/select.ts';
export { calibrationGraph, Calibrator } from './quantize/calibration.ts';
export type { CalibrationGraph } from './quantize/calibration.ts';
export type { CalibrationMethod, CalibrationOptions } from './quantize/ranges.ts';
export { decibels, excludeUntil, NoiseMeter, noiseProbe } from './quantize/sensitivity.ts';
export type { LayerNoise, NoiseProbe } from './quantize/sensitivity.ts';
export { QuantizeError } from './quantize/errors.ts';
export { float16Bits, float16Value } from './quantize/float16.ts';
export { readSafetensors, weightsToSafetensors, withSafetensors, writeSafetensors } from './interchange/safetensors.ts';
export type { SafetensorsFile, StoredTensor, StoredType } from './interchange/safetensors.ts';
