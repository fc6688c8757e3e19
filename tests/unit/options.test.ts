/** Values of options, and the messages about wrong ones. */
import { describe, expect, it } from 'vitest';
import { limitOption, numberOption, parseOptions, sizeOption } from '../../src/cli/options.js';

const GiB = 2 ** 30;

describe('a size', () => {
  it('is accepted within its limits', () => {
    expect(sizeOption('memory', '64M', 64 << 20, 8 * GiB)).toBe(64 << 20);
    expect(sizeOption('memory', '8G', 64 << 20, 8 * GiB)).toBe(8 * GiB);
    expect(sizeOption('memory', '3000000000', 0, 8 * GiB)).toBe(3_000_000_000);
  });

  it.each([
    ['1M', 64 << 20, 2 ** 30, 'from 64M to 1G'],
    ['9G', 64 << 20, 8 * GiB, 'from 64M to 8G'],
    ['1', 4096, 5 * GiB + 512, 'from 4K to 5368709632'],
    ['2P', 0, 2 ** 50, 'from 0 to 1024T'],
    ['x', 512, 3 * 2 ** 40, 'from 512 to 3T'],
  ])('%s is not within %i and %i, and the error gives the limits', (text, min, max, expected) => {
    expect(() => sizeOption('memory', text, min, max)).toThrow(`--memory ${text}: expected a size ${expected}`);
  });
});

it('a number is a whole one within its limits', () => {
  expect(numberOption('drive', '31', 0, 31)).toBe(31);
  for (const text of ['32', '-1', '1.5', '', '0x1']) {
    expect(() => numberOption('drive', text, 0, 31)).toThrow(`--drive ${text}: expected a whole number from 0 to 31`);
  }
});

it('a limit is a number, or none', () => {
  expect(limitOption('max-connections', '7', 10)).toBe(7);
  expect(limitOption('max-connections', 'none', 10)).toBe(Infinity);
  for (const text of ['0', '11', '-1', 'all']) {
    expect(() => limitOption('max-connections', text, 10)).toThrow(
      `--max-connections ${text}: expected a whole number from 1 to 10, or none`,
    );
  }
});

describe('a value that begins with a dash', () => {
  const config = {
    options: { lines: { type: 'string', short: 'n' }, name: { type: 'string' }, json: { type: 'boolean' } },
    allowPositionals: true,
  } as const;

  it.each([
    [['--lines', '-1'], '-1'],
    [['-n', '-1'], '-1'],
    [['--lines', '-'], '-'],
    [['--lines=-1'], '-1'],
  ])('is the value: %j', (args, value) => {
    expect(parseOptions('logs', args, config).values.lines).toBe(value);
  });

  it.each([
    [['--lines'], 'nothing'],
    [['--lines', '--json'], '--json'],
    [['--lines', '--name=x'], '--name=x'],
    [['--lines', '-n', '7'], '-n'],
    [['--lines', '--'], '--'],
  ])('is not the value if it is another option: %j', (args, behind) => {
    const told = `--lines needs a value, and ${behind} follows it: write --lines=VALUE; see farbus logs --help`;
    expect(() => parseOptions('logs', args, config)).toThrow(expect.objectContaining({ message: told }));
  });

  it('is not read after --', () => {
    expect(parseOptions('logs', ['--', '--lines', '-1'], config).positionals).toEqual(['--lines', '-1']);
  });
});
