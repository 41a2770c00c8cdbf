import { ConfigError, requireTeacher, type ModelProto } from '@commonweight/core';
import { ManifestSchema, type Manifest, type SignedManifest } from '@commonweight/proto';
import { fromBinary } from '@bufbuild/protobuf';
import type { RegistryReads } from '../registry/registry.ts';
import type { AnyConfig } from '../round/config.ts';
import type { TaskConfig } from '../round/policy.ts';
import { StoreError } from '../store/store.ts';

/** The version that a task's agents learn from besides their labels; undefined where there is none. */
export async function teacherOf(registry: RegistryReads, config: AnyConfig): Promise<SignedManifest | undefined> {
  if ('kind' in config || config.teacher === undefined) return undefined;
  return await registry.release(config.teacher.model, config.teacher.version);
}

/**
 * The configuration with the teacher's version named, so that it stays the same one. Throws ConfigError where the student cannot learn
 * from it, and ServiceError where there is none.
 */
export async function withTeacher(
  registry: RegistryReads,
  config: TaskConfig,
  student: ModelProto,
): Promise<TaskConfig> {
  const signed = await teacherOf(registry, config);
  if (signed === undefined) return config;
  const manifest = fromBinary(ManifestSchema, signed.manifest);
  const [model, version] = [manifest.model, Number(manifest.version)];
  requireTeacher(student, await graphOf(registry, manifest), config.plan.loss);
  return { ...config, teacher: { model, version } };
}

async function graphOf(registry: RegistryReads, manifest: Manifest): Promise<ModelProto> {
  try {
    return await registry.graph(manifest);
  } catch (cause) {
    if (!(cause instanceof StoreError) || cause.kind !== 'collected') throw cause;
    throw new ConfigError(
      `version ${manifest.version} of ${manifest.model} was let go by --keep-versions: choose a teacher that is here, and pin it`,
      'teacher',
      { cause },
    );
  }
}
