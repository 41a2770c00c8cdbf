/**
 * The table of docs/strategies.md, from the code: a row for each strategy with what its file's header says, the options of the table and
 * their defaults in the signatures. `node --conditions=@commonweight/source test/support/strategies-table.ts --write` renews it.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { localMethodOf, parsePlan, strategies, strategyFrom } from '@commonweight/core';

const root = join(import.meta.dirname, '../..');
export const STRATEGIES_DOC: string = join(root, 'docs/strategies.md');
const [BEGIN, END] = ['<!-- strategies: generated -->', '<!-- end of strategies -->'];

/** The text with the table in it as the code has it now. */
export function withTable(text: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${STRATEGIES_DOC} has lost its marks ${BEGIN} and ${END}`);
  return `${text.slice(0, begin + BEGIN.length)}\n\n${tableOf()}\n\n${text.slice(end)}`;
}

function tableOf(): string {
  const rows = Object.keys(strategies).map((name) => {
    const { what, source } = headerOf(name);
    const options = (strategies[name]?.options ?? []).map((option) => {
      const value = defaultOf(fileOf(name), option, name);
      return value === undefined ? `\`${option}\`` : `\`${option}\` (${value})`;
    });
    return `| \`${name}\` | ${kindOf(name)} | ${what} | ${options.join(', ')} | ${source} |`;
  });
  return ['| strategy | sees | what it does | options (default) | source |', '|---|---|---|---|---|', ...rows].join(
    '\n',
  );
}

/** What the coordinator needs to see of the updates. */
function kindOf(name: string): string {
  const strategy = strategyFrom({ name });
  if (strategy.robust !== undefined) return 'each update';
  const plan = parsePlan({
    loss: 'mse',
    optimizer: { name: 'sgd', learningRate: 0.1 },
    epochs: 1,
    batchSize: 1,
  });
  const { vectors, numbersMax } = localMethodOf(strategy.instruct(plan)).shape;
  const more = [
    ...(vectors > 1 ? [`${vectors} vectors`] : []),
    ...(numbersMax.length > 0 ? [`${numbersMax.length} number`] : []),
  ];
  return more.length === 0 ? 'the sum' : `the sum, with ${more.join(' and ')} an update`;
}

const fileOf = (name: string): string => `${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}.ts`;
const textOf = (file: string): string => readFileSync(join(root, 'core/src/strategy', file), 'utf8');

function headerOf(name: string): { what: string; source: string } {
  const [before = ''] = textOf(fileOf(name)).split(`export function ${name}(`);
  const comment = before.slice(before.lastIndexOf('/**') + 3, before.lastIndexOf('*/'));
  const plain = comment.replaceAll(/\s*\n \*\s?/g, ' ').trim();
  const [what = '', source = ''] = plain.split(/\s*Source: /);
  if (what === '' || source === '')
    throw new Error(`${fileOf(name)} does not say what ${name} does and where it is from`);
  return { what: cell(what.replace(/\.$/, '')), source: cell(source.replace(/\.$/, '')) };
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** A default stands in the file's own signature, or in that of a file that it hands the options on to. */
function defaultOf(file: string, option: string, made?: string): string | undefined {
  const text = textOf(file);
  // The agent's half may have the same options in the same file.
  const [, after = text] = made === undefined ? [] : text.split(`export function ${made}(`);
  const [signature = ''] = after.split('\n}\n');
  const own = new RegExp(`\\b${option} = ([^,}\\n]+?)\\s*[,}]`).exec(made === undefined ? text : signature)?.[1];
  if (own !== undefined) return own;
  const imported = [...text.matchAll(/from '\.\/([\w-]+\.ts)'/g)].map(([, name = '']) => name);
  for (const other of imported) {
    if (other === 'strategy.ts' || !existsSync(join(root, 'core/src/strategy', other))) continue;
    const found = defaultOf(other, option);
    if (found !== undefined) return found;
  }
  return undefined;
}

if (process.argv.includes('--write')) writeFileSync(STRATEGIES_DOC, withTable(readFileSync(STRATEGIES_DOC, 'utf8')));
