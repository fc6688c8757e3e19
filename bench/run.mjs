/**
 * Runs benchmarks one after the other: all, or the named ones. It finds them, their needs and their
 * options in the header comments of this folder's files: each has a line "node bench/NAME.mjs".
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const usage = `npm run bench: measure; docs/performance.md has the figures and what they mean

Usage: npm run bench                              every benchmark, one after the other (more than half an hour)
       npm run bench -- NAME...                   those
       npm run bench -- NAME -- OPTION...         one of them with options of its own
       npm run bench -- --list                    what there is, and what each needs
       npm run bench -- --help

One whose programs are missing is left out, with a line that says so; it is an error where it was named. The exit status
is 1 where one failed. The machine should do nothing else meanwhile: what is compared takes turns, but both get slower.

Examples:
  npm run bench -- guest
  npm run bench -- nbd -- --rounds 3 --only 'depth 1'
`;

/** Parses the header comment of a benchmark's file. */
function describe(file) {
  const text = readFileSync(join(folder, file), 'utf8');
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? '';
  const lines = comment.split('\n').map((line) => line.replace(/^ *\* ?/, '').trim());
  const command = lines.find((line) => line.startsWith(`node bench/${file}`));
  if (command === undefined || file === 'run.mjs') return undefined;
  const paragraph = lines.slice(lines.findIndex((line) => line !== ''));
  const about = paragraph.slice(0, paragraph.indexOf('')).join(' ');
  const needs =
    lines
      .find((line) => line.startsWith('Needs: '))
      ?.slice('Needs: '.length)
      .replace(/\.$/, '') ?? '';
  return { name: basename(file, '.mjs'), command, about, needs: needs === '' ? [] : needs.split(', ') };
}

/** A need is `root`, a file by its path, or a program. */
function isThere(need) {
  if (need === 'root') return process.getuid?.() === 0;
  if (need.startsWith('/')) return existsSync(need);
  return [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'].some((place) => {
    try {
      accessSync(join(place, need), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function fail(message, status) {
  console.error(`bench: ${message}`);
  process.exit(status);
}

const all = readdirSync(folder).filter((file) => file.endsWith('.mjs')).sort().map(describe).filter(Boolean); // prettier-ignore
const given = process.argv.slice(2);
const split = given.indexOf('--');
const names = split < 0 ? given : given.slice(0, split);
const options = split < 0 ? [] : given.slice(split + 1);

if (names.includes('--help') || names.includes('-h')) {
  process.stdout.write(usage);
  process.exit(0);
}
if (names.includes('--list')) {
  for (const { command, about, needs } of all) {
    console.log(`${command}\n  ${about}\n  needs: ${needs.join(', ') || 'nothing that is not here'}\n`);
  }
  process.exit(0);
}
const known = all.map(({ name }) => name).join(', ');
const strange = names.find((name) => !all.some((one) => one.name === name));
if (strange !== undefined) fail(`there is no benchmark ${strange}; there are: ${known}`, 2);
if (options.length > 0 && names.length !== 1) fail('options are for one benchmark: name it before the --', 2);
if (!existsSync(join(folder, '../dist/cli/main.js'))) fail('there is no build yet: npm run build', 1);

const chosen = names.length === 0 ? all : names.map((name) => all.find((one) => one.name === name));
const outcomes = [];
for (const { name, needs } of chosen) {
  const missing = needs.filter((need) => !isThere(need));
  if (missing.length > 0) {
    outcomes.push(`${name}: not run, as it needs ${missing.join(', ')}`);
    console.error(`bench: ${outcomes.at(-1)} (scripts/test-peers.sh installs programs)`);
    if (names.length > 0) process.exitCode = 1;
    continue;
  }
  console.log(`== ${name}`);
  const began = performance.now();
  const { status, signal } = spawnSync(process.execPath, [join(folder, `${name}.mjs`), ...options], {
    stdio: 'inherit',
    cwd: join(folder, '..'),
  });
  const took = `${((performance.now() - began) / 1000).toFixed(0)} s`;
  outcomes.push(status === 0 ? `${name}: ${took}` : `${name}: failed (${signal ?? `status ${status}`}) after ${took}`);
  if (status !== 0) process.exitCode = 1;
}
if (chosen.length > 1) console.log(`\n${outcomes.join('\n')}`);
