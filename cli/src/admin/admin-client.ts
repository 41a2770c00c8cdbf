import type { MessageInitShape } from '@bufbuild/protobuf';
import { openGrpcChannel, type GrpcChannel } from '@commonweight/client-sdk';
import type { VariantPolicy } from '@commonweight/coordinator';
import {
  AdminService,
  type ChannelStatus,
  type FleetStatus,
  type HoldChannelRequestSchema,
  type PromoteVersionRequestSchema,
  type ReportVariantRequestSchema,
  type RollbackChannelRequestSchema,
  type SignedVariantList,
  type AgentStatus,
  type KeptCandidate,
  type ModelSummary,
  type SignedManifest,
  type SignedResult,
  type TaskStatus,
} from '@commonweight/proto';
import { CommandError } from '../output/failure.ts';
import type { FileSource } from './file-source.ts';

/** Forms of a gigabyte take about ten seconds, and others may be made before them. */
const VARIANTS_DEADLINE_MS = 120_000;

/** A coordinator puts a large model into its store in one transaction, and says nothing meanwhile. */
const IMPORT_SILENT_MS_MAX = 120_000;

/** What an administrator may ask of a coordinator. */
export class AdminClient {
  readonly #url: string;
  readonly #channel: GrpcChannel;

  constructor(url: string) {
    this.#url = url;
    this.#channel = openGrpcChannel(url);
  }

  /** Sends a model as it is read, so that no more than a chunk of it is in memory. */
  async importModel(model: string, { size, chunks }: FileSource): Promise<SignedManifest> {
    const channel = openGrpcChannel(this.#url, { silentMsMax: IMPORT_SILENT_MS_MAX });
    try {
      return await this.#sent(channel, model, { size, chunks });
    } finally {
      channel.close();
    }
  }

  async #sent(channel: GrpcChannel, model: string, { size, chunks }: FileSource): Promise<SignedManifest> {
    const stream = channel.clientStream(AdminService.method.importModel);
    let isFirst = true;
    for await (const data of chunks) {
      const message = isFirst ? { model, data, size: BigInt(size) } : { data };
      isFirst = false;
      const refused = await stream.write(message).then(
        () => false,
        () => true,
      );
      // The answer says why the stream was closed.
      if (refused) break;
    }
    const { release } = await stream.finish();
    return given(release, 'importModel');
  }

  async listModels(): Promise<ModelSummary[]> {
    return (await this.#channel.unary(AdminService.method.listModels, {})).models;
  }

  async listVersions(model: string): Promise<SignedManifest[]> {
    return (await this.#channel.unary(AdminService.method.listVersions, { model })).releases;
  }

  /** What rounds made of a model and gates decide on, or decided. */
  async listCandidates(model: string): Promise<KeptCandidate[]> {
    return (await this.#channel.unary(AdminService.method.listCandidates, { model })).candidates;
  }

  /** What evaluations and statistics of a task, or of a model, came to. */
  async listResults(of: { task: string } | { model: string }): Promise<SignedResult[]> {
    return (await this.#channel.unary(AdminService.method.listResults, of)).results;
  }

  /** Versions of a model that are collected, pinned, or have their updates. */
  async listKept(model: string): Promise<Record<'collected' | 'pinned' | 'retained', bigint[]>> {
    return await this.#channel.unary(AdminService.method.listKept, { model });
  }

  /** Gives the version's number; 0 is the newest. */
  async pinVersion(model: string, version: number, pinned: boolean): Promise<number> {
    const request = { model, version: BigInt(version), pinned };
    return Number((await this.#channel.unary(AdminService.method.pinVersion, request)).version);
  }

  async listChannels(model: string): Promise<ChannelStatus[]> {
    return (await this.#channel.unary(AdminService.method.listChannels, { model })).channels;
  }

  async getFleets(model: string): Promise<FleetStatus[]> {
    return (await this.#channel.unary(AdminService.method.getFleet, { model })).fleets;
  }

  async promoteVersion(request: MessageInitShape<typeof PromoteVersionRequestSchema>): Promise<ChannelStatus> {
    return given((await this.#channel.unary(AdminService.method.promoteVersion, request)).status, 'promoteVersion');
  }

  async holdChannel(request: MessageInitShape<typeof HoldChannelRequestSchema>): Promise<ChannelStatus> {
    return given((await this.#channel.unary(AdminService.method.holdChannel, request)).status, 'holdChannel');
  }

  async rollbackChannel(request: MessageInitShape<typeof RollbackChannelRequestSchema>): Promise<ChannelStatus> {
    return given((await this.#channel.unary(AdminService.method.rollbackChannel, request)).status, 'rollbackChannel');
  }

  /** A version after the newest with what an older one has, and the task that goes on from it ('' where none runs). */
  async rollbackModel(model: string, version: number): Promise<{ release: SignedManifest; task: string }> {
    const request = { model, version: BigInt(version) };
    const { release, task } = await this.#channel.unary(AdminService.method.rollbackModel, request);
    return { release: given(release, 'rollbackModel'), task };
  }

  /** Resolves once the forms are there. */
  async makeVariants(model: string, version: number, policy: VariantPolicy): Promise<SignedVariantList> {
    const request = { model, version: BigInt(version), ...policy, forms: [...policy.forms] };
    const { makeVariants } = AdminService.method;
    return given(
      (await this.#channel.unary(makeVariants, request, { deadlineMs: VARIANTS_DEADLINE_MS })).variants,
      'makeVariants',
    );
  }

  async reportVariant(report: MessageInitShape<typeof ReportVariantRequestSchema>): Promise<SignedVariantList> {
    return given((await this.#channel.unary(AdminService.method.reportVariant, report)).variants, 'reportVariant');
  }

  async createTask(task: string, config: object): Promise<TaskStatus> {
    const request = { task, configJson: JSON.stringify(config) };
    return given((await this.#channel.unary(AdminService.method.createTask, request)).status, 'createTask');
  }

  async startTask(task: string): Promise<TaskStatus> {
    return given((await this.#channel.unary(AdminService.method.startTask, { task })).status, 'startTask');
  }

  async pauseTask(task: string): Promise<TaskStatus> {
    return given((await this.#channel.unary(AdminService.method.pauseTask, { task })).status, 'pauseTask');
  }

  async getTask(task: string): Promise<TaskStatus> {
    return given((await this.#channel.unary(AdminService.method.getTask, { task })).status, 'getTask');
  }

  async listTasks(): Promise<TaskStatus[]> {
    return (await this.#channel.unary(AdminService.method.listTasks, {})).tasks;
  }

  async listAgents(): Promise<AgentStatus[]> {
    return (await this.#channel.unary(AdminService.method.listAgents, {})).agents;
  }

  /** The task now and at each change, until the signal aborts or the connection breaks. */
  async *watchTask(task: string, signal: AbortSignal): AsyncGenerator<TaskStatus, void, undefined> {
    for await (const { status } of this.#channel.serverStream(AdminService.method.watchTask, { task }, { signal })) {
      if (status !== undefined) yield status;
    }
  }

  close(): void {
    this.#channel.close();
  }
}

/** Runs one piece of work with a client that is closed afterwards. */
export async function withAdmin<T>(url: string, work: (admin: AdminClient) => Promise<T>): Promise<T> {
  const admin = new AdminClient(url);
  try {
    return await work(admin);
  } finally {
    admin.close();
  }
}

function given<T>(value: T | undefined, method: string): T {
  if (value === undefined)
    throw new CommandError(`the coordinator answered ${method} with nothing; is it of another version?`);
  return value;
}
