// Writes the table of operators in docs/training.md anew from the code: `node scripts/operator-table.mjs`.
import { readFileSync, writeFileSync } from 'node:fs';
import { withOperatorTable } from '../test/support/operator-table.ts';

const file = new URL('../docs/training.md', import.meta.url);
writeFileSync(file, withOperatorTable(readFileSync(file, 'utf8')));
