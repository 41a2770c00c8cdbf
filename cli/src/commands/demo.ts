import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { DemoEvent } from '../demo/events.ts';
import type { DemoOptions } from '../demo/plan.ts';
import { nothingYet, progressed, summaryOf } from '../demo/progress.ts';
import { runDemo } from '../demo/run-demo.ts';
import { closingLines, lineOf, viewOf } from '../demo/view.ts';
import { reporting, whole } from '../output/arguments.ts';
import { LiveView } from '../output/live-view.ts';
import { standardOutput } from '../output/output.ts';
import { stopSignal } from '../output/stop-signal.ts';

const DRAW_EVERY_MS = 100;

type Show = { event(event: DemoEvent, elapsedMs: number): void; end(): void };

export function addDemo(program: Command): void {
  reporting(program.command('demo'))
    .description('a coordinator, ten agents over gRPC and NATS, and an app that follows the model live')
    .option('--rounds <n>', 'rounds to run', whole(1, 10_000), 20)
    .option('--agents <n>', 'agents to start', whole(1, 200), 10)
    .option('--seed <n>', 'of the first weights, the split and the training', whole(0), 1)
    .option('--data <dir>', 'a folder with an IDX set (MNIST, Fashion-MNIST), instead of the digits that come along')
    .action(demo);
}

async function demo({ data, ...options }: DemoOptions & { json?: boolean }): Promise<void> {
  const startMs = performance.now();
  const elapsed = (): number => Math.round(performance.now() - startMs);
  const output = standardOutput(options);
  const show = !output.json && process.stdout.isTTY ? drawn(elapsed) : printed(options.json === true);
  let progress;
  try {
    const folder = data === undefined ? {} : { data: resolve(data) };
    progress = await runDemo({ ...options, ...folder }, stopSignal(), (event) => show.event(event, elapsed()));
  } finally {
    show.end();
  }
  const summary = summaryOf(progress, elapsed());
  output.say(closingLines(summary).join('\n'), summary);
}

/** One line for each event that is worth one; with --json for every event. */
function printed(json: boolean): Show {
  const output = standardOutput({ json });
  return {
    event: (event, elapsedMs) => {
      const line = lineOf(event);
      if (json || line !== undefined)
        output.say(`${(elapsedMs / 1000).toFixed(1).padStart(6)} s  ${line}`, { ...event, elapsedMs });
    },
    end: () => {},
  };
}

/** A block that is drawn again in its place. */
function drawn(elapsed: () => number): Show {
  const view = new LiveView(process.stdout);
  let progress = nothingYet;
  const draw = (): void => view.draw(viewOf(progress, elapsed()));
  const timer = setInterval(draw, DRAW_EVERY_MS);
  return {
    event: (event) => (progress = progressed(progress, event)),
    end: () => {
      clearInterval(timer);
      draw();
      view.end();
    },
  };
}
