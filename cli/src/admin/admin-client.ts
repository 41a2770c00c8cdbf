import { openGrpcChannel, type GrpcChannel } from '@commonweight/client-sdk';
import {
  AdminService,
  CHUNK_BYTES_MAX,
  type AgentStatus,
  type ModelSummary,
  type SignedManifest,
  type TaskStatus,
} from '@commonweight/proto';
import { CommandError } from '../output/failure.ts';

/** What an administrator may ask of a coordinator. */
export class AdminClient {
  readonly #channel: GrpcChannel;

  constructor(url: string) {
    this.#channel = openGrpcChannel(url);
  }

  async importModel(model: string, onnx: Uint8Array): Promise<SignedManifest> {
    const stream = this.#channel.clientStream(AdminService.method.importModel);
    for (let offset = 0; offset < onnx.length; offset += CHUNK_BYTES_MAX) {
      const data = onnx.subarray(offset, offset + CHUNK_BYTES_MAX);
      const refused = await stream.write({ model: offset === 0 ? model : '', data }).then(
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
