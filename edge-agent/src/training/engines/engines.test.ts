import { runTrainingEngineContract } from '../../../../test/contract/training-engine.ts';

runTrainingEngineContract('ort-web');
runTrainingEngineContract('tfjs');
