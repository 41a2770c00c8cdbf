import { parseArgs } from 'node:util';

/** The options and positionals of a program. One that was started wrongly, or asked for `--help`, is told how to, and ends. */
export function argumentsOf(usage, options, { positionalsMin = 0, positionalsMax = 0 } = {}) {
  const help = { help: { type: 'boolean', short: 'h', default: false } };
  let parsed;
  try {
    parsed = parseArgs({ allowPositionals: positionalsMax > 0, options: { ...options, ...help } });
  } catch (error) {
    wrongUsage(error.message, usage);
  }
  const { values, positionals } = parsed;
  if (values.help) {
    console.log(`usage: ${usage}`);
    process.exit(0);
  }
  if (positionals.length < positionalsMin) wrongUsage('something is missing', usage);
  if (positionals.length > positionalsMax)
    wrongUsage(`too much: ${positionals.slice(positionalsMax).join(' ')}`, usage);
  return { values, positionals };
}

function wrongUsage(problem, usage) {
  console.error(`${problem}\nusage: ${usage}`);
  process.exit(2);
}

/** Has what goes wrong before the program runs end it with one line. */
export async function orEnd(name, work) {
  try {
    return await work;
  } catch (error) {
    console.error(`${name}: ${error.message}`);
    return process.exit(1);
  }
}
