import { CommanderError } from 'commander';
import { describeError, exitCodeOf } from './output/failure.ts';
import { toJson } from './output/output.ts';
import { commandLine } from './program.ts';

/** Runs a command line and gives its exit code: 0 done, 1 failed, 2 wrong usage or a question without an answer. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    await commandLine().parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has said already what was wrong, or shown the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const message = describeError(error);
    if (args.includes('--json')) process.stdout.write(`${toJson({ event: 'error', message })}\n`);
    process.stderr.write(`commonweight: ${message}\n`);
    if (process.env['COMMONWEIGHT_DEBUG'] !== undefined) console.error(error);
    return exitCodeOf(error);
  }
}
