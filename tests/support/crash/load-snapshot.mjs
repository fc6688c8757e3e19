/** Saves snapshots one over the other, for record.ts. usage: load-snapshot.mjs PATH COUNT */
import { randomBytes } from 'node:crypto';
import { openSync, writeSync } from 'node:fs';
import { writeSnapshot } from '../../../dist/machine/snapshot-file.node.js';

const [path, count] = process.argv.slice(2);
const marks = openSync('marks', 'a');
for (let number = 1; number <= Number(count); number++) {
  writeSync(marks, JSON.stringify({ saving: number }));
  const engine = randomBytes(20_000);
  engine[1] = number;
  await writeSnapshot(path, { key: String(number), drives: [], devices: [], engine });
  writeSync(marks, JSON.stringify({ saved: number }));
}
