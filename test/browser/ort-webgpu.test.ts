/** ONNX Runtime's WebGPU provider in Node, on a GPU that SwiftShader plays. */
import { runTrainingEngineContract } from '../contract/training-engine.ts';
import { swiftShaderEnvironment } from './swiftshader.ts';

// For the processes that train, which inherit it.
Object.assign(process.env, swiftShaderEnvironment());

// Small ones of the loss, which the report of a training has to name.
runTrainingEngineContract('ort-webgpu', ['LogSoftmax', 'OneHot']);
