// Loads a model on one engine after the other, and says what came of it: the process that `probeLoading` starts.
import { buildTrainingGraph, readModel, stepOfTraining } from '@commonweight/core';
import { plainReason, type Engine, type EngineName } from '../engine.ts';
import { servingEngines, type FromLoadProbe, type LoadJob, type ToLoadProbe } from './load-probe.ts';
import { openEngine } from './open.ts';

const tell = (message: FromLoadProbe): void => void process.send?.(message);

async function tryOn(name: EngineName, { served, trained }: LoadJob): Promise<void> {
  let engine: Engine;
  try {
    engine = await openEngine(name, { threads: 1 });
  } catch {
    return tell({ missing: name });
  }
  const serving = servingEngines.includes(name) ? { serving: { fault: await faultOf(() => engine.load(served)) } } : {};
  if (trained === undefined) return tell({ report: { engine: name, ...serving } });
  const { graph, plan } = trained;
  const training = await faultOf(() =>
    engine.compile(stepOfTraining(buildTrainingGraph(readModel(graph), plan, plan.batchSize, engine.forms))),
  );
  tell({ report: { engine: name, ...serving, training: { fault: training } } });
}

async function faultOf(load: () => Promise<{ release(): Promise<void> }>): Promise<string | undefined> {
  try {
    await (await load()).release();
    return undefined;
  } catch (error) {
    return plainReason(error);
  }
}

process.once('message', ({ engines, job }: ToLoadProbe) => {
  void (async () => {
    for (const engine of engines) await tryOn(engine, job);
  })();
});
process.on('disconnect', () => process.exit(0));
