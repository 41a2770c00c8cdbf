import type { EngineName, EngineReport } from '@commonweight/edge-agent';
import { availableParallelism, cpus } from 'node:os';
import type { Command } from 'commander';
import { reporting, whole } from '../output/arguments.ts';
import { table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

/** Written here as well, so that help needs no engine. */
export const engines: readonly EngineName[] = ['cpu', 'webgpu', 'cuda', 'dml', 'coreml'];

/** What there is to do for an engine that does not work. */
const MENDS: Readonly<Record<EngineName, string>> = {
  cpu: 'run `npm ci` again: the package onnxruntime-node is not whole',
  webgpu: 'wants a GPU and its Vulkan (Linux), Direct3D 12 (Windows) or Metal (macOS) driver',
  cuda: 'wants an NVIDIA GPU with driver, CUDA 12 and cuDNN 9, and the larger onnxruntime-node: see docs/gpu.md',
  dml: 'is of Windows',
  coreml: 'is of macOS',
};

export function addDoctor(agent: Command): void {
  reporting(agent.command('doctor'))
    .description(
      'train a small model with each engine of this machine, and say how long a step takes and what is missing',
    )
    .option('--threads <n>', 'threads of the CPU', whole(1, 1024), 1)
    .action(doctor);
}

async function doctor({ threads, ...options }: { threads: number; json?: boolean }): Promise<void> {
  const { isBuiltIn, probeEngine } = await import('@commonweight/edge-agent');
  const output = standardOutput(options);
  const reports: EngineReport[] = [];
  // One after the other: they share the machine.
  for (const engine of engines) {
    reports.push(
      isBuiltIn(engine)
        ? await probeEngine({ engine, threads })
        : { engine, works: false, why: 'the installed onnxruntime-node does not have it' },
    );
  }
  const working = reports.filter((report) => report.works).toSorted((a, b) => a.stepMs - b.stepMs);
  const rows = reports.map((report) =>
    report.works
      ? [report.engine, `${report.stepMs.toPrecision(3)} ms`, '']
      : [report.engine, 'no', `${report.why}; it ${MENDS[report.engine]}`],
  );
  const [first] = working;
  output.say(
    [
      `${cpus()[0]?.model.trim() ?? 'a CPU'}, ${availableParallelism()} cores, Node ${process.version}, ${process.platform}-${process.arch}`,
      table(['engine', 'step', ''], rows),
      'a step: 32 examples through an MLP of 199,210 parameters, forward and back, with SGD',
      ...(first === undefined || first.engine === 'cpu'
        ? []
        : [`fastest here: commonweight agent --engine ${first.engine}`]),
    ].join('\n'),
    { event: 'doctor', threads, engines: reports },
  );
  if (first === undefined) process.exitCode = 1;
}
