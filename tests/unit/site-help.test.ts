/** The help of the site commands agrees with docs/site.md. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { help as consoleHelp } from '../../src/cli/commands/console.js';
import { help as down } from '../../src/cli/commands/down.js';
import { help as lease } from '../../src/cli/commands/lease.js';
import { help as logs } from '../../src/cli/commands/logs.js';
import { help as up } from '../../src/cli/commands/up.js';

const docs = readFileSync(new URL('../../docs/site.md', import.meta.url), 'utf8');

it.each(Object.entries({ up, down, console: consoleHelp, lease, logs }))('farbus %s', (command, help) => {
  expect(docs).toContain(`farbus ${command}`);
  expect(help).toContain('Examples:');
  for (const [option] of help.matchAll(/^ {2}(--[a-z]+)/gm)) expect(docs).toContain(option.trim());
});
