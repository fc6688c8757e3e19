// Writes docs/commands.md from the tables of the commands: npm run docs, after a change of a table.
import { writeFileSync } from 'node:fs';
import { loadCommands } from '../dist/cli/commands/registry.js';
import { referencePage } from '../dist/cli/reference.js';

writeFileSync(new URL('../docs/commands.md', import.meta.url), referencePage(await loadCommands()));
