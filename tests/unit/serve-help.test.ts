/** The help of the commands that serve disks, compared with the documentation. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { help as attachHelp } from '../../src/cli/commands/attach.js';
import { filterNames } from '../../src/app/filters.js';
import { serveHelp } from '../../src/cli/commands/serve.js';
import { help as statusHelp } from '../../src/cli/commands/status.js';

function page(...names: string[]): string {
  return names.map((name) => readFileSync(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')).join('\n');
}

/** The options that a help text explains. */
function optionsOf(help: string): string[] {
  return [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map((match) => match[1]!);
}

describe('the help and the pages', () => {
  it.each([
    ['serve', serveHelp, page('serve', 'filters')],
    ['attach', attachHelp, page('attach', 'filters')],
    ['status', statusHelp, page('serve')],
  ])('of farbus %s tell of the same options', (_, help, docs) => {
    const options = optionsOf(help).filter((option) => option !== '--help');
    expect(options.length).toBeGreaterThan(3);
    expect(options.filter((option) => !docs.includes(`\`${option}`) && !docs.includes(`[${option}`))).toEqual([]);
    expect(help).toContain('Examples:');
  });

  it('name every filter, in the order in which they are applied', () => {
    const help = optionsOf(serveHelp).filter((option) => filterNames.includes(option.slice(2)));
    expect(help.sort()).toEqual(filterNames.map((name) => `--${name}`).sort());
    const at = filterNames.map((name) => page('filters').indexOf(`\`--${name}`));
    expect(at).toEqual([...at].sort((a, b) => a - b));
  });
});
