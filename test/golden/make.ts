// Writes the golden files anew: `node --conditions=@commonweight/source test/golden/make.ts`. Formats are promises: read
// golden.test.ts before.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { files } from './vectors.ts';

for (const [name, vectors] of Object.entries(files)) {
  writeFileSync(join(import.meta.dirname, name), `${JSON.stringify(vectors(), undefined, 2)}\n`);
}
