// Runs command lines one after the other in one process, and says of each how it ended and how much memory there ever was: `run-commands FILE`, a JSON list of lists.
import { readFileSync } from 'node:fs';
import { main } from '../../cli/src/run.ts';

export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
  /** MiB that the process had at most until then. */
  peakMib: number;
}

const commands = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as string[][];
const ended: Ended[] = [];
const write = process.stdout.write.bind(process.stdout);
for (const args of commands) {
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (text: string | Uint8Array): boolean => {
      said[name] += String(text);
      return true;
    };
  }
  const code = await main(args);
  ended.push({ code, ...said, peakMib: process.resourceUsage().maxRSS / 1024 });
}
write(JSON.stringify(ended));
