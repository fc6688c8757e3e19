/**
 * Logs of a site: limited in size as they are written, and read together with their older part,
 * even while they are rotated or truncated.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { loadCommands } from '../../src/cli/commands/registry.js';
import { processIo } from '../../src/cli/ui/io.js';
import { command } from '../../src/cli/commands/logs.js';
import { TracePrinter } from '../../src/app/trace.js';
import { detachedFolder, logFolder } from '../../src/site/folders.node.js';
import { SiteLogs } from '../../src/site/logs.node.js';
import { loggedComputers, loggedSites, LogReader } from '../../src/site/read-logs.node.js';
import { RotatingFile } from '../../src/site/rotating-file.node.js';
import { tempFolder } from '../support/temp.js';

let folder: string;
let path: string;

beforeEach(() => {
  folder = tempFolder();
  path = join(folder, 'desk.log');
});

const bytes = (text: string): Uint8Array => Buffer.from(text);
const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `line ${from + i}`);

describe('a rotating file', () => {
  it('keeps its newest bytes, and at most twice its size', () => {
    const file = new RotatingFile(path, 1000);
    for (let i = 0; i < 500; i++) file.append(bytes(`line ${i}\n`));
    file.close();
    expect(readdirSync(folder).sort()).toEqual(['desk.log', 'desk.log.1']);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).size).toBeLessThanOrEqual(1000);
    const both = readFileSync(`${path}.1`, 'utf8') + readFileSync(path, 'utf8');
    const lines = both.trimEnd().split('\n');
    expect(lines).toEqual(numbered(500 - lines.length, 500));
    expect(lines.length).toBeGreaterThan(100);
  });

  it('starts empty, and removes the parts of an earlier one', () => {
    writeFileSync(path, 'old');
    writeFileSync(`${path}.1`, 'older');
    new RotatingFile(path, 1000).close();
    expect(readdirSync(folder)).toEqual(['desk.log']);
    expect(readFileSync(path, 'utf8')).toBe('');
  });

  it('that cannot be made is refused with its name', () => {
    expect(() => new RotatingFile(join(folder, 'none', 'x.log'), 10)).toThrow(/cannot write .*none\/x\.log/);
  });
});

describe('a reader', () => {
  it('gives the last lines, across the two parts, and then new lines', () => {
    const file = new RotatingFile(path, 100);
    for (let i = 0; i < 15; i++) file.append(bytes(`line ${i}\n`));
    const reader = new LogReader(path);
    expect(reader.last(8)).toEqual(numbered(7, 15));
    expect(reader.read()).toEqual([]);
    file.append(bytes('half'));
    expect(reader.read()).toEqual([]);
    expect(reader.unfinished).toBe('half');
    file.append(bytes(' and half\nmore\n'));
    expect(reader.read()).toEqual(['half and half', 'more']);
    reader.close();
    file.close();
  });

  it('loses and repeats no line when the file is rotated', () => {
    const file = new RotatingFile(path, 100);
    const reader = new LogReader(path);
    expect(reader.last(10)).toEqual([]);
    const seen: string[] = [];
    for (let i = 0; i < 200; i++) {
      file.append(bytes(`line ${i}\n`));
      // At most one rotation between two reads.
      if (i % 5 === 0) seen.push(...reader.read());
    }
    seen.push(...reader.read());
    expect(seen).toEqual(numbered(0, 200));
    reader.close();
    file.close();
  });

  it('continues with a file that is removed and made again', () => {
    const first = new RotatingFile(path, 1000);
    first.append(bytes('first\n'));
    const reader = new LogReader(path);
    expect(reader.last(10)).toEqual(['first']);
    first.close();
    new SiteLogs(folder).close();
    expect(reader.read()).toEqual([]);
    const second = new RotatingFile(path, 1000);
    second.append(bytes('second\n'));
    expect(reader.read()).toEqual(['second']);
    reader.close();
    second.close();
  });

  it('without a file gives nothing, and the last 0 lines are none', () => {
    const reader = new LogReader(path);
    expect(reader.last(10)).toEqual([]);
    appendFileSync(path, 'a\nb\n');
    const other = new LogReader(path);
    expect(other.last(0)).toEqual([]);
    expect(other.read()).toEqual([]);
    expect(reader.read()).toEqual(['a', 'b']);
    reader.close();
    other.close();
  });

  it('joins characters that arrive in parts, and splits a line without an end', () => {
    const reader = new LogReader(path);
    const euro = Buffer.from('1 €\n');
    appendFileSync(path, euro.subarray(0, 3));
    expect(reader.read()).toEqual([]);
    appendFileSync(path, euro.subarray(3));
    expect(reader.read()).toEqual(['1 €']);
    appendFileSync(path, 'x'.repeat(300_000));
    const parts = reader.read();
    expect(parts.length).toBeGreaterThan(1);
    expect((parts.join('') + reader.unfinished).length).toBe(300_000);
    reader.close();
  });
});

describe("a site's logs", () => {
  it('are by computer, with times, one line a message, of a bounded length', () => {
    const logs = new SiteLogs(folder);
    logs.line('desk', 'one\ntwo\r\nthree');
    logs.line('desk', 'y'.repeat(1 << 20));
    logs.output('desk', bytes('login: '));
    logs.line('store', 'up');
    logs.close();
    const lines = readFileSync(path, 'utf8').split('\n');
    expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z one two three$/);
    expect(lines[1]!.length).toBeLessThan(5000);
    expect(readFileSync(join(folder, 'desk.console'), 'utf8')).toBe('login: ');
    expect(loggedComputers(folder)).toEqual(['desk', 'store']);
  });

  it('of an earlier run are removed when it starts again, and no other file', () => {
    for (const name of ['gone.log', 'gone.log.1', 'gone.console', 'gone.trace', 'notes.txt']) {
      writeFileSync(join(folder, name), '');
    }
    new SiteLogs(folder).close();
    expect(readdirSync(folder)).toEqual(['notes.txt']);
  });

  it('are found by the time of their last line', async () => {
    const state = tempFolder();
    expect(loggedSites(join(state, 'none'))).toEqual([]);
    for (const site of ['first', 'second']) {
      mkdirSync(join(state, site));
      new SiteLogs(join(state, site)).line('desk', 'up');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(loggedSites(state)).toEqual(['second', 'first']);
  });
});

it('a trace in a bounded file is whole when it is closed', async () => {
  const trace = TracePrinter.bounded(path, 1 << 20);
  trace.step({ traceId: 1, id: '261', time: 0, detail: 'read' });
  trace.step({ traceId: 2n ** 60n, id: '280', time: 0, detail: 'a request' });
  await trace.close();
  expect(readFileSync(path, 'utf8')).toBe(
    '#1        261      0.000 ms  read\n#1152921504606846976  280      0.000 ms  a request\n',
  );
});

it('farbus logs --list lists all logs, the newest first', async () => {
  const env = { XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: join(folder, 'state') };
  const io = { ...processIo(), env };
  const [out, err]: [string[], string[]] = [[], []];
  const keep = (to: string[]) => ({ write: (text: string) => to.push(text) > 0 }) as unknown as typeof io.stdout;
  const run = async (...args: string[]): Promise<string> => {
    out.length = err.length = 0;
    await command.run(['--list', ...args], { ...io, stdout: keep(out), stderr: keep(err) }, { commands: loadCommands });
    return out.join('');
  };
  expect(await run()).toBe('');
  expect(err.join('')).toMatch(/^farbus: there are no logs: [^\n]+\n$/);
  let age = 7200;
  for (const [place, name] of [
    [logFolder(env, 'demo'), 'desk'],
    [detachedFolder(env, 'store'), 'store'],
  ] as const) {
    const logs = new SiteLogs(place);
    logs.output(name, bytes('x'.repeat(2000)));
    logs.line(name, 'up');
    logs.close();
    const then = Date.now() / 1000 - age;
    for (const file of readdirSync(place)) utimesSync(join(place, file), then, then);
    age -= 3600;
  }
  expect(await run()).toMatch(
    /^NAME +STATE +SIZE +LAST LINE\nstore +ended +2\.0 KiB +1 h \S+ \S+ ago\ndemo\/desk +ended +2\.0 KiB +2 h .*ago\n$/,
  );
  expect(JSON.parse(await run('demo', '--json'))).toMatchObject([{ name: 'demo', computer: 'desk', running: false }]);
  await expect(run('none')).rejects.toThrow(/^there are no logs of "none": farbus logs --list shows all$/);
  await expect(run('--follow')).rejects.toThrow('--list takes only --json');
});

it('farbus logs says in one line that there is no site', async () => {
  const env = { XDG_RUNTIME_DIR: folder, XDG_STATE_HOME: join(folder, 'state') };
  const io = { ...processIo(), env };
  const program = { commands: loadCommands };
  await expect(command.run([], io, program)).rejects.toThrow(
    /^there are no logs, as no site runs or has run: farbus up SITE-FILE starts one$/,
  );
  await expect(command.run(['--site', 'demo'], io, program)).rejects.toThrow('there are no logs of a site "demo"');
  await expect(command.run(['--lines', 'x'], io, program)).rejects.toThrow('--lines x: expected a whole number');
});
