/** Text for a terminal: its width, its characters and its colours. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { processIo, stderrLogger, type CliIo } from '../../src/cli/ui/io.js';
import { ProgressLine, progressLine } from '../../src/cli/ui/progress.js';
import { layOut } from '../../src/cli/ui/process-table.js';
import { coloured, hasUnicode } from '../../src/cli/ui/style.js';
import { farbusFile } from '../interop/farbus.js';
import { missing } from '../support/nbd-peers.js';
import { tempImage, tempPath } from '../support/temp.js';

const parts = {
  label: 'linux-image-6.1.0',
  bar: '#'.repeat(20),
  percent: '37%',
  amount: '1.1 GiB of 3.0 GiB',
  rate: '100 MiB/s',
  left: '19 s left',
};

describe('the progress line', () => {
  it.each([
    [79, '  linux-image-6.1.0 37%, 1.1 GiB of 3.0 GiB, 100 MiB/s, 19 s left'],
    [90, `  linux-image-6.1.0 ${parts.bar} 37%, 1.1 GiB of 3.0 GiB, 100 MiB/s, 19 s left`],
    [60, '  linux-image-6.1.0 37%, 100 MiB/s, 19 s left'],
    [39, '  linux-image-6.1.0 37%, 19 s left'],
    [30, '  linux-image-6 37%, 19 s left'],
    [20, '37%, 19 s left'],
    [15, '37%, 19 s left'],
    [10, '37%'],
    [2, '37'],
    [0, ''],
  ])('in %i columns leaves out its least important part', (width, line) => {
    expect(progressLine(parts, width)).toBe(line);
  });

  it('has the rate where no time left is known', () => {
    expect(progressLine({ ...parts, left: '' }, 39)).toBe('  linux-image-6.1.0 37%, 100 MiB/s');
  });

  it('is never wider than the terminal', () => {
    for (let width = 0; width < 120; width++) expect(progressLine(parts, width).length).toBeLessThanOrEqual(width);
  });
});

describe('the list of farbus ps', () => {
  it('fits the terminal, and in a pipe no text is cut', () => {
    const row = { name: 'n'.repeat(40), kind: 'server', up: '1 s', uses: ['u'.repeat(90)], reach: ['r'.repeat(90)] };
    for (const width of [40, 80, 200]) {
      for (const line of layOut([row], width).split('\n')) expect(line.length).toBeLessThanOrEqual(width);
    }
    const short = { name: 'server', kind: 'server', up: '2 s', uses: ['d.img'], reach: ['nbd://127.0.0.1/d.img'] };
    for (const width of [80, Infinity]) {
      expect(layOut([short], width).split('\n')[1]).toBe('server  server  2 s  d.img  nbd://127.0.0.1/d.img');
    }
    expect(layOut([row], Infinity).split('\n')[1]).toBe(`${row.name}  server  1 s  ${row.uses[0]}  ${row.reach[0]}`);
  });
});

/** A terminal that records its output. */
function terminal(env: NodeJS.ProcessEnv, isTTY = true) {
  const stderr = { isTTY, columns: 80, written: '', write: (text: string) => void (stderr.written += text) };
  return { stderr, io: { ...processIo(), stderr, env } as CliIo };
}

describe('progress', () => {
  it('fits the terminal after each change of its width', () => {
    const { stderr, io } = terminal({ LANG: 'C.UTF-8' });
    const progress = new ProgressLine(io);
    for (const columns of [100, 40, 20, 0, 60]) {
      stderr.columns = columns;
      stderr.written = '';
      progress.bytes(`part ${columns}`, 1000, 4000);
      const line = /^\r([^\x1b]*)\x1b\[K$/.exec(stderr.written)![1]!;
      expect(line).toContain('25%');
      expect(line.length).toBeLessThan(columns || 80);
      expect(line.includes('█')).toBe(columns === 100 || columns === 0 || line.includes('░'));
    }
  });

  it.each([{ LANG: 'C' }, { LC_ALL: 'C', LANG: 'de_DE.UTF-8' }, { LANG: 'de_DE.ISO-8859-1' }, {}])(
    'is plain ASCII with the locale %j',
    (env) => {
      const { stderr, io } = terminal(env);
      stderr.columns = 200;
      new ProgressLine(io).bytes('copying', 3000, 4000);
      expect(stderr.written).toMatch(/^\r {2}copying #{15}\.{5} 75%, [ -~]*\x1b\[K$/);
    },
  );

  it('draws nothing on a dumb terminal or in a pipe, and says at the end what was done', () => {
    for (const { stderr, io } of [terminal({ TERM: 'dumb' }), terminal({}, false)]) {
      const progress = new ProgressLine(io);
      progress.bytes('copying', 1, 2048);
      progress.status('waiting', 1);
      expect(stderr.written).toBe('');
      progress.bytes('copying', 2048, 2048);
      expect(stderr.written).toBe('  copying: 2.0 KiB\n');
    }
  });

  it('of waiting keeps the time in a narrow terminal', () => {
    const { stderr, io } = terminal({});
    stderr.columns = 20;
    new ProgressLine(io).status('the computers start and fetch', 61);
    expect(stderr.written).toBe('\r  the com, 1:01 min\x1b[K');
  });
});

describe('the characters', () => {
  it.each([
    [{ LANG: 'en_US.UTF-8' }, true],
    [{ LANG: 'C.utf8' }, true],
    [{ LC_CTYPE: 'C.UTF-8', LANG: 'C' }, true],
    [{ LC_ALL: 'C.UTF-8', LC_CTYPE: 'C' }, true],
    [{ LC_ALL: '', LANG: 'en_US.UTF-8' }, true],
    [{ LC_ALL: 'POSIX', LANG: 'en_US.UTF-8' }, false],
    [{ LC_CTYPE: 'C', LANG: 'en_US.UTF-8' }, false],
    [{}, false],
  ])('of the locale %j have Unicode: %s', (env, expected) => {
    expect(hasUnicode(env)).toBe(expected);
  });

  it('of every message are ASCII in the source, so that no locale garbles them', () => {
    // Symbols have an ASCII form (style.ts), and so has the guest's screen (code page 437). A
    // browser shows the console page, in UTF-8.
    const own = '^src/(cli/ui/style\\.ts|machine/screen\\.ts|web/page/[^:]*):';
    const lines = execFileSync('grep', ['-rnP', '[^\\x00-\\x7F]', 'src', '--include=*.ts'], { encoding: 'utf8' });
    const code = lines
      .split('\n')
      .filter((line) => !/^[^:]*:\d+:\s*(\*|\/\/|\/\*)/.test(line) && !new RegExp(own).test(line));
    expect(code.filter((line) => /[^\x00-\x7F]/.test(line.replace(/\/[/*].*$/, '')))).toEqual([]);
  });
});

describe('colours', () => {
  it('mark warnings and errors on a terminal, without NO_COLOR', () => {
    const shown = (env: NodeJS.ProcessEnv, isTTY?: boolean): string => {
      const { stderr, io } = terminal(env, isTTY);
      const log = stderrLogger(io);
      log.log('info', 'i');
      log.log('warn', 'w');
      log.log('error', 'e');
      return stderr.written;
    };
    expect(shown({})).toBe('farbus: i\nfarbus: \x1b[33mwarning:\x1b[39m w\nfarbus: \x1b[31merror:\x1b[39m e\n');
    const plain = 'farbus: i\nfarbus: warning: w\nfarbus: error: e\n';
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) expect(shown(env)).toBe(plain);
    expect(shown({}, false)).toBe(plain);
    expect(coloured('done', 'x', { isTTY: true }, { NO_COLOR: '' })).toBe('\x1b[32mx\x1b[39m');
  });
});

describe.skipIf(missing('script'))('farbus copy in a terminal of 40 columns, with LANG=C', () => {
  it('shows percent and the time left or the rate in ASCII, and follows a change of the width', () => {
    const [from, to] = [tempImage(6 << 20), tempPath('copy.img')];
    execFileSync('dd', ['if=/dev/urandom', `of=${from}`, 'bs=1M', 'count=6', 'conv=notrunc', 'status=none']);
    const copy = `"${process.execPath}" "${farbusFile}" copy --rate 2M "${from}" "${to}"`;
    const command = `stty cols 40; (sleep 2; stty cols 24 < /dev/tty) & ${copy}`;
    const env = { ...process.env, LC_ALL: 'C', TERM: 'xterm', NO_COLOR: '1' };
    const output = execFileSync('script', ['-qec', command, '/dev/null'], { env, encoding: 'utf8' });
    const lines = [...output.matchAll(/\r([^\r\n\x1b]*)\x1b\[K/g)]
      .map(([, line]) => line!)
      .filter((line) => line !== '');
    expect(output).toMatch(/^[\t\n\r\x1b -~]*$/);
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) expect(line).toMatch(/\d+%, .*(\/s|left)$/);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(40);
    expect(lines.at(-2)!.length).toBeLessThan(24);
  });
});
