/** Help and completion, made from the tables of the commands, and compared with the docs. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { filterNames } from '../../src/app/filters.js';
import type { Command } from '../../src/cli/table.js';
import { commandNames, loadCommands } from '../../src/cli/commands/registry.js';
import { completionScript, shellNames } from '../../src/cli/completion.js';
import { exitStatus } from '../../src/cli/exit-status.js';
import { commandHelp, mainHelp, shortHelp, shortMainHelp, topicHelp } from '../../src/cli/help.js';
import { manualPages } from '../../src/cli/manual.js';
import { referencePage } from '../../src/cli/reference.js';
import { topics } from '../../src/cli/topics.js';
import { wrapCommand } from '../../src/cli/ui/wrap.js';
import { missing } from '../support/nbd-peers.js';

const commands = await loadCommands();
const helps: [string, string][] = [
  ['farbus', mainHelp(commands)],
  ...commands.map((command): [string, string] => [command.name, commandHelp(command)]),
  ...Object.keys(topics).map((topic): [string, string] => [topic, topicHelp(topic)!]),
];
const shortHelps: [string, string][] = commands.map((command) => [command.name, shortHelp(command)]);

function pages({ pages: names }: Command): string {
  return names.map((name) => readFileSync(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')).join('\n');
}

describe.each([...helps, ['farbus -h', shortMainHelp(commands)], ...shortHelps])('the help of %s', (_, help) => {
  it('fits a terminal of 80 columns, in ASCII', () => {
    expect(help.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(help).toMatch(/^[\x20-\x7e\n]*[^\n]\n$/);
  });
});

describe('the short help', () => {
  it.each(shortHelps)('of %s fits a screen of 24 lines, and has two examples at most', (_, help) => {
    expect(help.split('\n').length - 1).toBeLessThanOrEqual(24);
    expect(help).toContain(`\nExamples:\n`);
    expect(help.slice(help.indexOf('Examples:')).match(/^ {2}\S/gm)!.length).toBeLessThanOrEqual(2);
  });

  it.each(commands.map((command) => [command.name, command] as const))('of %s shows ten options at most', (_, of) => {
    const all = Object.keys(of.options);
    const { often = all } = of;
    expect(often.length).toBeLessThanOrEqual(10);
    expect(often.filter((name) => !all.includes(name))).toEqual([]);
    for (const name of often) expect(shortHelp(of)).toContain(`\n  --${name}`);
  });
});

describe('the table', () => {
  it('has the name by which the command is registered', () => {
    expect(commands.map(({ name }) => name)).toEqual(commandNames);
  });

  it.each(commands.map((command) => [command.name, command] as const))(
    'of farbus %s names a page about it',
    (name, of) => {
      expect(pages(of)).toContain(`farbus ${name}`);
    },
  );

  it.each(commands.map((command) => [command.name, command] as const))('of farbus %s gives examples', (name, of) => {
    expect(of.examples.length).toBeGreaterThan(0);
    expect(of.examples.some((example) => example.startsWith(`farbus ${name}`))).toBe(true);
    const help = commandHelp(of);
    for (const option of Object.keys(of.options)) expect(help).toContain(`--${option}`);
  });

  it('of all commands makes docs/commands.md', () => {
    const file = readFileSync(new URL('../../docs/commands.md', import.meta.url), 'utf8');
    expect(file, 'run npm run docs').toBe(referencePage(commands));
  });

  it('of each filter is in the docs, in the order in which filters are applied', () => {
    const docs = readFileSync(new URL('../../docs/filters.md', import.meta.url), 'utf8');
    const at = filterNames.map((name) => docs.indexOf(`\`--${name}`));
    expect(Math.min(...at)).toBeGreaterThan(0);
    expect(at).toEqual([...at].sort((a, b) => a - b));
    for (const name of filterNames) expect(topicHelp('filters')).toContain(`\n  --${name}`);
  });

  it('of exit statuses is in the help and in the docs', () => {
    const docs = readFileSync(new URL('../../docs/exit-status.md', import.meta.url), 'utf8');
    const help = mainHelp(commands) + commands.map(commandHelp).join('');
    for (const status of Object.values(exitStatus)) {
      expect(help).toMatch(new RegExp(`\n  ${status} +\\w`));
      expect(docs).toContain(`| ${status} `);
    }
    expect(new Set(Object.values(exitStatus)).size).toBe(Object.keys(exitStatus).length);
  });
});

describe('a long command line', () => {
  it('is broken between words, where quotes stay whole and an option keeps its value', () => {
    const long = `farbus run --drive nbd://server/a/long/name/of/a/disk.img --exec 'echo one two three' --quiet --json`;
    const broken = wrapCommand(long);
    expect(broken.replaceAll(/ \\\n +/g, ' ').trim()).toBe(long);
    expect(broken.split('\n').map((line) => line.trim().replace(/ \\$/, ''))).toEqual([
      'farbus run --drive nbd://server/a/long/name/of/a/disk.img',
      "--exec 'echo one two three' --quiet --json",
    ]);
    const two = 'farbus run --detach --name desk --drive nbd://server/disk.img && farbus console desk';
    expect(wrapCommand(two)).toBe(`  ${two.replace('&& ', '&& \\\n      ')}`);
    expect(wrapCommand('farbus serve disk.img && farbus ps')).toBe('  farbus serve disk.img && farbus ps');
  });
});

describe('completion', () => {
  it('is printed for each shell, and refused for others', () => {
    for (const shell of shellNames) expect(completionScript(shell, commands)).toContain('guest-disk');
    expect(() => completionScript('csh', commands)).toThrow('give one of bash, zsh, fish');
    expect(() => completionScript('constructor', commands)).toThrow('give one of bash, zsh, fish');
  });

  it.skipIf(missing('fish'))('in fish gives commands, options, values and filters', () => {
    const ask = (line: string): string[] => {
      const script = `${completionScript('fish', commands)}\ncomplete -C ${JSON.stringify(line)}`;
      const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' });
      expect(stderr).toBe('');
      return stdout
        .trim()
        .split('\n')
        .map((one) => one.replace(/\t.*/, ''))
        .sort();
    };
    expect(ask('farbus co')).toEqual(['completion', 'console', 'copy']);
    expect(ask('farbus serve --log-format ')).toEqual(['json', 'text']);
    expect(ask('farbus serve --max-h')).toEqual(['--max-handshakes']);
    expect(ask('farbus serve disk.img,par')).toEqual(['disk.img,partition=']);
    expect(ask('farbus help sou')).toEqual(['sources']);
  });

  it.skipIf(missing('zsh'))('in zsh gives commands, options, values and filters', () => {
    // Replaces the functions that offer words by ones that print their arguments.
    const ask = (words: string): string => {
      const script = `compdef() { }; compset() { [[ $PREFIX == *,* ]] }
        compadd() { print -r -- "$@" }; _arguments() { print -r -- "$@"; _farbus_source }; _files() { print files }
        ${completionScript('zsh', commands)}
        words=(${words}); CURRENT=$#words; PREFIX=$words[-1]; _farbus`;
      const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8' });
      expect(stderr).toBe('');
      return stdout;
    };
    expect(ask('farbus co')).toMatch(/^-- run serve .*completion/);
    expect(ask('farbus serve x')).toContain('--log-format=[text; or json');
    expect(ask('farbus serve x')).toMatch(/\*:operand:_farbus_source\nfiles\n$/);
    expect(ask('farbus serve d.img,par')).toMatch(/-S {2}-- .*partition= /);
    expect(ask('farbus completion x')).toContain('*:operand:(bash zsh fish)');
  });

  it('in bash gives commands, options, and the values of an option', () => {
    const ask = (...words: string[]): string[] => {
      const script = `${completionScript('bash', commands)}
COMP_WORDS=("$@"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _farbus; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' });
      expect(stderr).toBe('');
      return stdout.trim().split('\n');
    };
    expect(ask('farbus', 'co')).toEqual(['copy', 'console', 'completion']);
    expect(ask('farbus', 'serve', '--log-format', '=', 'j')).toEqual(['json']);
    expect(ask('farbus', 'serve', 'disk.img,rate=1M,par')).toEqual(['disk.img,rate=1M,partition=']);
    expect(ask('farbus', 'run', '--drive', 'disk.img,cd')).toEqual(['disk.img,cdrom']);
    expect(ask('farbus', 'completion', 'z')).toEqual(['zsh']);
    expect(ask('farbus', 'serve', '--log-format', '')).toEqual(['text', 'json']);
    expect(ask('farbus', 'copy', '--re')).toEqual(['--resume', '--reconnect']);
    expect(ask('farbus', 'help', 'sou')).toEqual(['sources']);
  });
});

describe('the manual pages', () => {
  const pages = manualPages(commands, '1.2.3');

  it('are there for farbus, each command and each word, with every option', () => {
    const words = Object.keys(topics).map((topic) => `farbus-${topic}.7`);
    expect([...pages.keys()]).toEqual(['farbus.1', ...commandNames.map((name) => `farbus-${name}.1`), ...words]);
    for (const { name, options } of commands) {
      const page = pages.get(`farbus-${name}.1`)!.replaceAll('\\-', '-');
      for (const option of Object.keys(options)) expect(page).toContain(`\n.B "--${option}`);
    }
  });

  it('are in the package, which npm install --global links for man(1)', () => {
    const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    const { man } = JSON.parse(file) as { man: string[] };
    expect(man, 'run npm run docs').toEqual([...pages.keys()].map((name) => `dist/man/${name}`));
  });

  it.skipIf(missing('groff'))('are read by groff without a warning, and keep quotes and backslashes', () => {
    const all = [...pages.values()].join('\n');
    const { stdout, stderr, status } = spawnSync('groff', ['-man', '-ww', '-Tascii', '-P-c'], {
      input: all,
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain("farbus type desk 'root<enter>'");
    // Every example is there in full.
    const text = stdout.replaceAll(/.\x08/g, '');
    for (const { examples } of commands) for (const example of examples) expect(text).toContain(`  ${example}\n`);
  });
});
