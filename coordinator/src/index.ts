export { openCoordinator, type CoordinatorOptions } from './coordinator.ts';
export {
  ServiceError,
  type AgentGate,
  type AgentSession,
  type AgentSink,
  type BlobPart,
  type CoordinatorService,
  type KeptVersions,
  type ServiceErrorCode,
} from './service.ts';
export { backupTo, restoreFrom } from './store/backup.ts';
export { repairBlobs, type BlobSource, type Repair } from './store/repair.ts';
export { verifyStore, type DamagedBlob, type ModelReport, type VerifyReport } from './store/verify.ts';
export { auditVersion, type Audit } from './driver/audit.ts';
export { inflated } from './driver/inflate.ts';
export { openSigner } from './identity/signer.ts';
export { SqliteStore } from './store/sqlite-store.ts';
export { parsePostgresUrl } from './store/postgres-address.ts';
export { PostgresReads } from './store/postgres-store.ts';
export { StoreError, type StoreReads } from './store/store.ts';
export { KEEP_VERSIONS_MIN, type KeepVersions } from './registry/collector.ts';
export { parseConfig, type AnyConfig } from './round/config.ts';
export { gridOf, parseTaskConfig, policyOf, strategyOf, taskDefaults, type TaskConfig } from './round/policy.ts';
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
export type { RelayFigures } from './relay/figures.ts';
export { startRelay, type RelayOptions, type RunningRelay } from './relay/start-relay.ts';
export { loadStrategy, type LoadedStrategy } from './strategies/load-strategy.ts';
export {
  CALIBRATION_AGENTS_LEAST,
  CALIBRATION_AGENTS_MIN,
  CALIBRATION_AGENTS_MOST,
  parseVariantPolicy,
  variantForms,
  type VariantForm,
  type VariantPolicy,
} from './variants/forms.ts';
