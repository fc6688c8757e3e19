/**
 * `farbus exec`: a command at the console of a running computer. The console is a shell of this
 * computer, on a terminal of script(1); tests/boot uses a guest's own.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import { withoutPrompt } from '../../src/app/computer/console-command.js';
import { computerHandler, type Controlled } from '../../src/app/computer/control.js';
import { consoleStream } from '../../src/app/control/console.js';
import { register } from '../../src/app/control/registry.js';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import { Processes } from '../support/processes.js';

const terminals: ChildProcess[] = [];
const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const terminal of terminals) terminal.kill('SIGKILL');
  for (const close of closing) await close();
});

/** A computer called desk whose console has a shell, in a place of its own. */
class Desk {
  readonly place = new Processes();
  readonly feed = new ConsoleFeed();
  state = 'running';
  #output = '';
  readonly #terminal = spawn('script', ['-qfc', 'exec sh -i', '/dev/null'], {
    env: { PATH: process.env['PATH'], PS1: '~ # ', TERM: 'dumb' },
    stdio: ['pipe', 'pipe', 'ignore'],
  });

  async start(): Promise<this> {
    terminals.push(this.#terminal);
    this.#terminal.stdout.on('data', (chunk: Buffer) => {
      this.#output += chunk.toString('latin1');
      this.feed.add(chunk);
    });
    const facts = () => ({ state: this.state, uses: [], reach: [] });
    const { env } = this.place;
    const own = await register({ kind: 'computer', name: 'desk', usual: 'desk', env, end: () => undefined }, facts());
    const sendSerial = (bytes: Uint8Array): boolean => this.#terminal.stdin.write(bytes);
    const parts = { computer: { sendSerial }, media: {}, usesScreen: false } as unknown as Controlled;
    own.serve(computerHandler(parts, this.feed), facts);
    closing.push(() => own.close());
    await this.printed(/# $/);
    return this;
  }

  type(text: string): void {
    this.#output = '';
    this.#terminal.stdin.write(text);
  }

  async printed(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.#output)) await once(this.#terminal.stdout, 'data');
    return this.#output;
  }

  exec(...args: string[]): ReturnType<Processes['farbus']> {
    return this.place.farbus('exec', ...args);
  }

  /** Starts a command with an open input, and waits until it prints. */
  async begin(...args: string[]) {
    const child = this.place.spawnPiped(...args);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await once(child.stdout, 'data');
    const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, said }));
    return { child, ended };
  }
}

/** A socket whose other side reads nothing. */
class SlowSocket extends EventEmitter {
  destroyed = false;
  writableLength = 0;
  writes = 0;

  write(bytes: Uint8Array): void {
    this.writes++;
    this.writableLength += bytes.length;
  }

  resume(): void {
    // Nothing arrives.
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

describe('farbus exec', () => {
  it('prints the output of a command and ends with its status; options behind the name are the command’s', async () => {
    const desk = await new Desk().start();
    const words = ['desk', 'printf', "'%s.'", '--timeout', '-h', '--help', '--;', 'exit', '7'];
    expect(await desk.exec(...words)).toEqual({ code: 7, stdout: '--timeout.-h.--help.--.', stderr: '' });
    expect(await desk.exec('desk', 'cd / && pwd; echo error >&2')).toMatchObject({ code: 0, stdout: '/\nerror\n' });
    // People type there afterwards: the terminal has its settings back.
    desk.type('stty -a\n');
    expect(await desk.printed(/\sopost\s[^]*\secho\s[^]*# $/)).toContain('~ #');
    const child = desk.place.spawnPiped('exec', 'desk', 'wc', '-c');
    child.stdin.end('x'.repeat(5000));
    let counted = '';
    child.stdout.on('data', (chunk: Buffer) => (counted += chunk.toString()));
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(counted.trim()).toBe('5000');
  });

  it('ends the command by Ctrl-C, and the shell is there for the next one', async () => {
    const desk = await new Desk().start();
    const { child, ended } = await desk.begin('exec', 'desk', 'trap "echo bye; exit" INT; echo begun; sleep 1000');
    let rest = '';
    child.stdout.on('data', (chunk: Buffer) => (rest += chunk.toString()));
    child.kill('SIGINT');
    expect(await ended).toEqual({ code: 130, said: '' });
    // The console's shell gets Ctrl-C too. Its prompt may come before the command's last output.
    // On a loaded machine it even takes its next line before; the command is then given up.
    expect(rest).toMatch(/^(?:(?:\n~ # )?bye\n?)?$/);
    await desk.printed(/bye\r?\n/);
    const late = await desk.exec('--timeout', '1', 'desk', 'sleep 1000');
    expect(late).toEqual({
      code: 124,
      stdout: '',
      stderr: 'farbus: the command did not end within 1 s (--timeout) and was ended by Ctrl-C\n',
    });
    expect(await desk.exec('desk', 'echo', 'on')).toEqual({ code: 0, stdout: 'on\n', stderr: '' });
  });

  it('gets all output, however slowly it reads, or ends; a terminal misses some', () => {
    for (const alone of [true, false]) {
      const feed = new ConsoleFeed();
      const socket = new SlowSocket();
      consoleStream(feed, () => undefined, alone).take(socket as unknown as Socket, new Uint8Array());
      const piece = new Uint8Array(1 << 20);
      for (let at = 0; at < 100 && !socket.destroyed; at++) feed.add(piece);
      expect([socket.writes, socket.destroyed]).toEqual(alone ? [64, true] : [1, false]);
      if (alone) feed.use('the console is free again', true);
    }
  });

  it.each([
    ['bye\n\n~ # ', 'bye\n'],
    ['~ $ ', ''],
    ['x'.repeat(300_000), 'x'.repeat(300_000)],
    ['costs 3 $', 'costs 3 $'],
  ])('leaves the prompt behind the last output away, also behind long lines', (text, wanted) => {
    expect(withoutPrompt(text) === wanted).toBe(true);
  });

  it('is refused while another has the console, and keeps others out', async () => {
    const desk = await new Desk().start();
    const console = await desk.begin('console', 'desk');
    expect(await desk.exec('desk', 'true')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^farbus: another terminal uses this console [^\n]+\n$/) as string,
    });
    console.child.stdin.end('\x1d');
    await console.ended;
    const running = await desk.begin('exec', 'desk', 'echo begun; read line; echo $line');
    const refused = {
      code: 1,
      stderr: expect.stringMatching(/^farbus: a command of farbus exec runs [^\n]+\n$/) as string,
    };
    expect(await desk.exec('desk', 'true')).toMatchObject(refused);
    expect(await desk.place.farbus('console', 'desk')).toMatchObject(refused);
    running.child.stdin.end('go\n');
    expect(await running.ended).toEqual({ code: 0, said: '' });
  });

  it('is refused where no shell waits at a prompt, and types nothing there', async () => {
    const desk = await new Desk().start();
    desk.type('cat\n');
    await desk.printed(/cat\r\n/);
    const refused = await desk.exec('desk', 'true');
    expect(refused.stderr).toBe(
      'farbus: no shell waits at a prompt on the console of desk; its last line is "~ # cat": see farbus console desk\n',
    );
    expect(refused.code).toBe(1);
    desk.type('\x04');
    // Only the prompt: cat has got nothing that it could have repeated.
    expect((await desk.printed(/# $/)).trim()).toBe('~ #');
    // A message of the kernel behind the prompt does not hide it.
    desk.feed.add(Buffer.from('[   12.345678] nvme0n1: p1\r\n'));
    expect(await desk.exec('desk', 'echo', 'on')).toMatchObject({ code: 0, stdout: 'on\n' });
    desk.state = 'booting';
    expect((await desk.exec('desk', 'true')).stderr).toBe(
      'farbus: desk does not run, its state is booting: see farbus ps\n',
    );
  });

  it('ends with the computer', async () => {
    const desk = await new Desk().start();
    const { ended } = await desk.begin('exec', 'desk', 'echo begun; sleep 1000');
    desk.feed.end();
    expect(await ended).toEqual({ code: 1, said: 'farbus: desk ended before the command had\n' });
  });

  it.each([
    [[], /exec where\?/],
    [['desk'], /exec what in desk\?/],
    [['desk', '--timeout', '3', 'true'], /--timeout belongs before the name/],
    [['--timeout', 'x', 'desk', 'true'], /--timeout x: expected a whole number/],
    [['desk', '--'], /there is no COMMAND after --/],
  ])('wrong use is reported in a line: %j', async (args, message) => {
    const { code, stderr } = await new Processes().farbus('exec', ...args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect(code).toBe(2);
  });
});
