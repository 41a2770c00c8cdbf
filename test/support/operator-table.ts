import { gradientFamilies } from '../../core/src/autodiff/gradients.ts';
import { rewriteFamilies } from '../../core/src/autodiff/rewrite/write-node.ts';

const [begin, end] = ['<!-- operators: begin -->', '<!-- operators: end -->'];

/** The text with the table between the two marks written from the code. */
export function withOperatorTable(text: string): string {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the text lacks ${begin} or ${end}; put them where the table belongs`);
  return `${text.slice(0, from + begin.length)}\n${operatorTable()}\n${text.slice(to)}`;
}

function operatorTable(): string {
  const rows = [
    ...rowsOf('gradient', gradientFamilies),
    // A composite is trained as what it is rewritten to.
    ...rowsOf('rewrite', rewriteFamilies),
  ];
  return ['| family | by | operators |', '|---|---|---|', ...rows].join('\n');
}

function rowsOf(kind: string, families: Readonly<Record<string, object>>): string[] {
  return Object.entries(families).map(([family, table]) => {
    const names = Object.keys(table).sort();
    return `| ${family} | ${kind} | ${names.map((name) => `\`${name}\``).join(', ')} |`;
  });
}
