export { openCoordinator, type CoordinatorOptions } from './coordinator.ts';
export {
  ServiceError,
  type AgentSession,
  type AgentSink,
  type BlobPart,
  type CoordinatorService,
  type ServiceErrorCode,
} from './service.ts';
export { backupTo, restoreFrom } from './store/backup.ts';
export { verifyStore, type ModelReport, type VerifyReport } from './store/verify.ts';
export { openSigner } from './identity/signer.ts';
export { SqliteStore } from './store/sqlite-store.ts';
export { StoreError } from './store/store.ts';
export { parseTaskConfig, policyOf, taskDefaults, type TaskConfig } from './round/policy.ts';
export {
  firstState,
  step,
  verdictOn,
  type RoundEffect,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from './round/round.ts';
export { startCoordinator, type RunningCoordinator, type StartOptions } from './main.ts';
