// Writes docs/commands.md, and the list of manual pages in package.json, from the tables of the
// commands: npm run docs, after a change of a table.
import { readFileSync, writeFileSync } from 'node:fs';
import { loadCommands } from '../dist/cli/commands/registry.js';
import { manualPages } from '../dist/cli/manual.js';
import { referencePage } from '../dist/cli/reference.js';

const commands = await loadCommands();
writeFileSync(new URL('../docs/commands.md', import.meta.url), referencePage(commands));

const packageFile = new URL('../package.json', import.meta.url);
const described = JSON.parse(readFileSync(packageFile, 'utf8'));
described.man = [...manualPages(commands, '').keys()].map((name) => `dist/man/${name}`);
writeFileSync(packageFile, `${JSON.stringify(described, undefined, 2)}\n`);
