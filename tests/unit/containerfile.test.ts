/**
 * packaging/Containerfile: its syntax, by the checks that editors use, and the rules that this
 * project sets itself. No engine builds it here.
 */
import { validate } from 'dockerfile-utils';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadCommands } from '../../src/cli/commands/registry.js';
import { parseOptions } from '../../src/cli/options.js';

const text = readFileSync('packaging/Containerfile', 'utf8');

interface Instruction {
  readonly name: string;
  readonly words: string;
}

/** The stages of a file, each with its instructions; continued lines are joined. */
function stagesOf(file: string): Instruction[][] {
  const stages: Instruction[][] = [];
  const lines = file
    .replace(/^#.*\n/gm, '')
    .replaceAll('\\\n', ' ')
    .split('\n');
  for (const line of lines.filter((one) => one.trim() !== '')) {
    const [, name, words] = /^([A-Z]+)\s+(.*)$/.exec(line)!;
    if (name === 'FROM') stages.push([]);
    stages.at(-1)!.push({ name: name!, words: words! });
  }
  return stages;
}

/** Faults of a file against the rules; empty if there is none. */
function faultsOf(file: string): string[] {
  const faults = validate(file).map(({ message, range }) => `line ${range.start.line + 1}: ${message}`);
  if (faults.length > 0) return faults;
  const stages = stagesOf(file);
  const last = stages.at(-1)!;
  const of = (name: string): string[] => last.filter((one) => one.name === name).map(({ words }) => words);
  if (stages.length < 2) faults.push('it has one stage: the sources and tools of the build stay in it');
  const [user] = of('USER').slice(-1);
  if (user === undefined || /^(root|0)\b/.test(user)) faults.push('it runs as root');
  if (!of('HEALTHCHECK').some((words) => words.includes('CMD ['))) faults.push('it has no health check');
  for (const name of ['CMD', 'ENTRYPOINT']) {
    // A shell in between would take the signals.
    if (!of(name).every((words) => words.startsWith('['))) faults.push(`${name} runs in a shell`);
  }
  for (const { name, words } of stages.flat()) {
    if (name === 'FROM' && !/:[^:/]+?( AS |$)/.test(words)) faults.push(`${words} has no version`);
    if (name === 'ADD') faults.push('ADD fetches and unpacks: use COPY');
    if (words.includes('apt-get install') && !words.includes('rm -rf /var/lib/apt/lists')) {
      faults.push("it keeps apt's lists");
    }
  }
  return faults;
}

describe('the container file', () => {
  it('has no fault', () => {
    expect(faultsOf(text)).toEqual([]);
  });

  it.each([
    ['USER node', 'USER root', 'it runs as root'],
    ['USER node\n', '', 'it runs as root'],
    ['HEALTHCHECK ', '# ', 'it has no health check'],
    ['ENTRYPOINT ["farbus"]', 'ENTRYPOINT farbus', 'ENTRYPOINT runs in a shell'],
    ['COPY . .', 'COPPY . .', expect.stringMatching(/^line \d+: Unknown instruction: COPPY/)],
    ['STOPSIGNAL SIGTERM', 'STOPSIGNAL', expect.stringMatching(/^line \d+: /)],
  ])('would be refused with %j as %j', (from, to, fault) => {
    expect(text).toContain(from);
    expect(faultsOf(text.replace(from, to))).toEqual([fault]);
  });

  it('copies files that exist, and runs commands that farbus has', async () => {
    const [build, last] = stagesOf(text) as [Instruction[], Instruction[]];
    for (const { name, words } of build) {
      if (name === 'COPY') for (const file of words.split(' ').slice(0, -1)) expect(existsSync(file), file).toBe(true);
    }
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
    expect(scripts).toHaveProperty('build');
    const commands = await loadCommands();
    const lists = last.flatMap(({ name, words }) =>
      /^(CMD|HEALTHCHECK)$/.test(name) ? [/\[.*\]/.exec(words)![0]] : [],
    );
    for (const list of lists) {
      const [name, ...args] = (JSON.parse(list) as string[]).filter((word) => word !== 'farbus');
      const command = commands.find((one) => one.name === name)!;
      expect(command, name).toBeDefined();
      parseOptions(command, args);
    }
    expect(lists.length).toBe(2);
  });
});
