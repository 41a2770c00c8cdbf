import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { EngineName } from '../engine.ts';
import type { CpuBudget } from '../messages.ts';
import { probeEngine } from './probe.ts';

type Engines = [EngineName, ...EngineName[]];

/** Those that may be faster than the CPU where there is a GPU. */
const ON_GPU: readonly EngineName[] = ['ort-cuda', 'ort-webgpu', 'ort-dml', 'ort-coreml'];

/** The engines to train with, best first; what comes after the first is for when it fails. An engine that is asked for is tried out before. */
export async function chooseEngines(
  asked: EngineName | 'auto',
  budget: CpuBudget,
  warn: (text: string) => void,
): Promise<Engines> {
  const others = ['ort-cpu', ...fallbacks()] as Engines;
  if (asked === 'ort-cpu') return others;
  if (asked === 'auto') {
    const faster = hasGpu() ? await fasterThanCpu(budget) : [];
    return [...faster, ...others] as Engines;
  }
  const report = await probeEngine(asked, budget);
  if (report.works) return [asked, ...others.filter((name) => name !== asked)];
  const [next] = others;
  warn(`${asked} does not train here (${report.why}): ${next} does; see \`commonweight agent doctor\``);
  return others.filter((name) => name !== asked) as Engines;
}

/** Engines that beat the CPU on the larger model that they are tried with, fastest first. */
async function fasterThanCpu(budget: CpuBudget): Promise<EngineName[]> {
  const cpu = await probeEngine('ort-cpu', budget);
  const found: { name: EngineName; stepMs: number }[] = [];
  // One after the other: they share the machine.
  for (const name of ON_GPU) {
    const report = await probeEngine(name, budget);
    if (!report.works || report.cnnMs === undefined) continue;
    if (!cpu.works || cpu.cnnMs === undefined || report.cnnMs < cpu.cnnMs) found.push({ name, stepMs: report.cnnMs });
  }
  return found.sort((a, b) => a.stepMs - b.stepMs).map(({ name }) => name);
}

/** Whether it is worth the seconds of trying engines out. Only Linux tells beforehand. */
function hasGpu(): boolean {
  if (process.platform !== 'linux') return true;
  const isNamed = ['VK_ICD_FILENAMES', 'VK_DRIVER_FILES'].some((name) => process.env[name] !== undefined);
  return isNamed || existsSync('/dev/nvidia0') || renderNodes().length > 0;
}

function renderNodes(): string[] {
  return existsSync('/dev/dri') ? readdirSync('/dev/dri').filter((name) => name.startsWith('renderD')) : [];
}

/** Engines that are slower and need nothing of the machine, where their packages are installed. */
function fallbacks(): EngineName[] {
  const { resolve } = createRequire(import.meta.url);
  const isThere = (name: string): boolean => {
    try {
      return resolve(name) !== '';
    } catch {
      return false;
    }
  };
  return [
    ...(isThere('onnxruntime-web') ? (['ort-web'] as const) : []),
    ...(isThere('@tensorflow/tfjs-core') ? (['tfjs'] as const) : []),
  ];
}
