import type { EngineName, EngineReport } from '@commonweight/edge-agent';
import { availableParallelism, cpus } from 'node:os';
import type { Command } from 'commander';
import { reporting, share, whole } from '../output/arguments.ts';
import { table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

/** Written here as well, so that help needs no engine. */
export const engines: readonly EngineName[] = [
  'ort-cpu',
  'ort-cuda',
  'ort-webgpu',
  'ort-dml',
  'ort-coreml',
  'ort-web',
  'tfjs',
];

/** What there is to do for an engine that does not work. */
const MENDS: Readonly<Record<EngineName, string>> = {
  'ort-cpu': 'run `npm ci` again: the package onnxruntime-node is not whole',
  'ort-cuda':
    'it wants an NVIDIA GPU with driver, CUDA 12 and cuDNN 9, and the larger onnxruntime-node: see docs/gpu.md',
  'ort-webgpu': 'it wants a GPU and its Vulkan (Linux), Direct3D 12 (Windows) or Metal (macOS) driver',
  'ort-dml': 'it is of Windows',
  'ort-coreml': 'it is of macOS',
  'ort-web': 'npm install onnxruntime-web, which needs nothing of the machine',
  tfjs: 'see docs/gpu.md',
};

export function addDoctor(agent: Command): void {
  reporting(agent.command('doctor'))
    .description(
      'train small models with each engine of this machine, and say how long a step takes and what is missing',
    )
    .option('--threads <n>', 'threads of the CPU (else one for each core but one, as agents have)', whole(1, 1024))
    .option('--cpu-share <share>', 'how much of all cores training may keep busy, such as 0.5', share)
    .action(doctor);
}

interface Options {
  threads?: number;
  cpuShare?: number;
  json?: boolean;
}

async function doctor({ threads, cpuShare, ...options }: Options): Promise<void> {
  const { cpuBudget, probeEngine } = await import('@commonweight/edge-agent');
  const output = standardOutput(options);
  const budget = cpuBudget({
    ...(threads === undefined ? {} : { threads }),
    ...(cpuShare === undefined ? {} : { share: cpuShare }),
  });
  const reports: EngineReport[] = [];
  // One after the other: they share the machine.
  for (const engine of engines) reports.push(await probeEngine(engine, budget));
  const working = reports.filter((report) => report.works);
  const [best] = working
    .filter(({ cnnMs }) => cnnMs !== undefined)
    .toSorted((a, b) => (a.cnnMs ?? Infinity) - (b.cnnMs ?? Infinity));
  output.say(
    [
      `${cpus()[0]?.model.trim() ?? 'a CPU'}, ${availableParallelism()} cores of which ${budget.threads} train, Node ${process.version}, ${process.platform}-${process.arch}`,
      table(['engine', '2NN', 'CNN', ''], reports.map(row)),
      'a step: 32 examples through a model of McMahan et al. 2017 and back, with SGD; 2NN has 199,210 parameters, CNN 1,663,370',
      ...(best === undefined
        ? []
        : [`\`commonweight agent\` takes ${best.engine} here, unless --engine says otherwise`]),
    ].join('\n'),
    { event: 'doctor', threads: budget.threads, engines: reports },
  );
  if (working.length === 0) process.exitCode = 1;
}

function row(report: EngineReport): string[] {
  if (!report.works) return [report.engine, 'no', '', `${report.why}; ${MENDS[report.engine]}`];
  const { engine, mlpMs, cnnMs, elsewhere, runsOn } = report;
  const lacks = elsewhere.length === 0 ? [] : [`on the CPU beside it: ${elsewhere.join(', ')}`];
  const notes = [...(runsOn === undefined ? [] : [runsOn]), ...lacks];
  return [engine, milliseconds(mlpMs), cnnMs === undefined ? 'too slow' : milliseconds(cnnMs), notes.join('; ')];
}

const milliseconds = (ms: number): string => `${ms.toPrecision(3)} ms`;
