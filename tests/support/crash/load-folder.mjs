/** Writes a file into a folder that does not exist, for record.ts. usage: load-folder.mjs PATH */
import { openSync, writeSync } from 'node:fs';
import { replaceFile } from '../../../dist/base/files.node.js';

const marks = openSync('marks', 'a');
writeSync(marks, JSON.stringify({ saving: 1 }));
await replaceFile(process.argv[2], ['content'], { makesFolder: true, durable: true });
writeSync(marks, JSON.stringify({ saved: 1 }));
