/**
 * Commands through the shell of a guest's console. Here it is a shell of this computer; tests/boot
 * uses the guest's own.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { GuestShell, GuestShellEnded } from '../../src/computer/guest-shell.js';

const shells: ChildProcess[] = [];
afterEach(() => shells.splice(0).forEach(({ pid }) => process.kill(-pid!, 'SIGKILL')));

/**
 * A shell that reads lines and is restarted when it ends, like the one on a guest's console. If
 * `echo` is true, the terminal echoes at first.
 */
function console(echo = false): { shell: GuestShell; typed: () => string } {
  const child = spawn('sh', ['-c', 'while :; do sh 2>&1; done'], { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
  shells.push(child);
  let typed = '';
  const listeners = new Set<(bytes: Uint8Array) => void>();
  const tell = (bytes: Uint8Array) => listeners.forEach((listener) => listener(bytes));
  child.stdout!.on('data', tell);
  const shell = new GuestShell({
    send: async (text) => {
      typed += text;
      const silenced = text.startsWith('stty -echo');
      if (echo) tell(Buffer.from(text.replaceAll('\n', '\r\n')));
      echo &&= !silenced;
      child.stdin!.write(text);
    },
    listen: (receive) => {
      listeners.add(receive);
      return () => listeners.delete(receive);
    },
  });
  return { shell, typed: () => typed };
}

async function run(
  command: string,
  { input, echo, shell = console(echo).shell }: { input?: Uint8Array[]; echo?: boolean; shell?: GuestShell } = {},
): Promise<{ status: number; output: Buffer }> {
  const chunks: Uint8Array[] = [];
  async function* given(): AsyncIterable<Uint8Array> {
    yield* input!;
  }
  const status = await shell.execute(command, {
    onOutput: (bytes) => chunks.push(bytes),
    ...(input && { input: given() }),
  });
  return { status, output: Buffer.concat(chunks) };
}

const text = async (...args: Parameters<typeof run>) => {
  const { status, output } = await run(...args);
  return { status, output: output.toString() };
};

describe('a command in its own shell', () => {
  it.each([false, true])('returns its status and output, and its exit ends nothing else (echo: %s)', async (echo) => {
    const { shell } = console(echo);
    expect(await text('echo hi; exit 7', { shell })).toEqual({ status: 7, output: 'hi\n' });
    expect(await text("printf 'no end of line'", { shell })).toEqual({ status: 0, output: 'no end of line' });
  });

  it('may have any characters and any length', async () => {
    const { shell, typed } = console();
    const odd = `'"\\$x \`y\` !! %s ~ ü 你\t#`;
    const quoted = odd.replaceAll("'", `'\\''`);
    expect((await text(`printf %s '${quoted}'`, { shell })).output).toBe(odd);
    expect((await text('if true\nthen echo "two\nlines"\nfi', { shell })).output).toBe('two\nlines\n');
    const long = 'x'.repeat(30_000);
    expect((await text(`echo '${long}'`, { shell })).output).toBe(`${long}\n`);
    // No line is longer than a shell with a line editor accepts (BusyBox: 1,024 characters).
    expect(
      Math.max(
        ...typed()
          .split('\n')
          .map((line) => line.length),
      ),
    ).toBeLessThan(1000);
  });

  it('with an unbalanced quote ends with the shell’s error', async () => {
    const { status, output } = await text("echo 'hi");
    expect(status).not.toBe(0);
    expect(output).toMatch(/unterminated|unexpected|EOF/i);
  });

  it('prints any bytes', async () => {
    const { output } = await run("printf 'a\\r\\nb\\n\\000\\377'; printf farbus-");
    expect(output).toEqual(Buffer.from('a\r\nb\n\0\xfffarbus-', 'latin1'));
  });

  it('reads the end at once if there is no input', async () => {
    expect(await text('cat; read x || echo end')).toEqual({ status: 0, output: 'end\n' });
  });

  it('reads any bytes of the input, and its end', async () => {
    const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
    const { status, output } = await run('cat; exit 3', { input: [bytes.subarray(0, 9), bytes.subarray(9)] });
    expect(status).toBe(3);
    expect(output.equals(bytes)).toBe(true);
  });

  it('need not read its input', async () => {
    const input = Array.from({ length: 50 }, () => new Uint8Array(10_000));
    expect((await text('echo quick', { input })).output).toBe('quick\n');
  });

  it("gives an error if the console's shell is killed with it", async () => {
    await expect(text('kill -9 $PPID; sleep 100')).rejects.toThrow(GuestShellEnded);
  });

  it('is cancelled by a signal', async () => {
    const stop = new AbortController();
    const { shell } = console();
    const running = shell.execute('sleep 100', { onOutput: () => undefined, signal: stop.signal });
    setTimeout(() => stop.abort(new Error('enough')), 100);
    await expect(running).rejects.toThrow('enough');
  });

  it('waits for the commands of other users of the console', async () => {
    const { shell } = console();
    const all = await Promise.all([1, 2, 3].map((i) => text(`sleep 0.1; echo ${i}; exit ${i}`, { shell })));
    expect(all).toEqual([1, 2, 3].map((i) => ({ status: i, output: `${i}\n` })));
  });
});
