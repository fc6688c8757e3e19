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
  const table = {
    name: 'logs',
    options: { lines: { value: 'N', short: 'n', about: '' }, name: { value: 'NAME', about: '' }, json: { about: '' } },
    operands: [],
  } as const;

  it.each([
    [['--lines', '-1'], '-1'],
    [['-n', '-1'], '-1'],
    [['--lines', '-'], '-'],
    [['--lines=-1'], '-1'],
  ])('is the value: %j', (args, value) => {
    expect(parseOptions(table, args).values.lines).toBe(value);
  });

  it.each([
    [['--lines'], 'nothing'],
    [['--lines', '--json'], '--json'],
    [['--lines', '--name=x'], '--name=x'],
    [['--lines', '-n', '7'], '-n'],
    [['--lines', '--'], '--'],
  ])('is not the value if it is another option: %j', (args, behind) => {
    const told = `--lines needs a value, and ${behind} follows it: write --lines=VALUE; see farbus logs --help`;
    expect(() => parseOptions(table, args)).toThrow(expect.objectContaining({ message: told }));
  });

  it('is not read after --', () => {
    expect(parseOptions(table, ['--', '--lines', '-1']).operands).toEqual(['--lines', '-1']);
  });
});

describe('an option by its table', () => {
  const options = {
    trace: { value: 'FILE', alone: '', about: '' },
    mode: { value: 'MODE', choices: ['a', 'b'], about: '' },
    with: { value: 'NAME', multiple: true, about: '' },
    jobs: { value: 'N', default: '8', about: '' },
    all: { about: '' },
  } as const;
  const parse = (...args: string[]) => parseOptions({ name: 'x', options, operands: [] }, args);

  it('has its default, or is absent', () => {
    expect(parse().values).toEqual({ with: [], jobs: '8', all: false });
  });

  it('may be given without a value, and does not take the next word then', () => {
    expect(parse('--trace', 'disk.img')).toMatchObject({ values: { trace: '' }, operands: ['disk.img'] });
    expect(parse('--trace=steps').values.trace).toBe('steps');
  });

  it('takes only its choices, once unless it may be repeated', () => {
    expect(parse('--with', 'a', '--with=b').values.with).toEqual(['a', 'b']);
    expect(() => parse('--mode', 'c')).toThrow('--mode c: expected a or b');
    expect(() => parse('--jobs', '1', '--jobs', '2')).toThrow('--jobs is given twice');
  });

  it('ends where the command to run begins', () => {
    const table = { name: 'x', options, operands: [], runs: 'after-dashes' } as const;
    expect(parseOptions(table, ['a', '--', 'b', '--all'])).toMatchObject({ operands: ['a'], command: ['b', '--all'] });
    expect(() => parseOptions(table, ['a', '--'])).toThrow('there is no COMMAND after --');
  });

  it('ends at the first operand of a command that runs the words behind it', () => {
    const table = { name: 'x', options, operands: [], runs: 'after-operand' } as const;
    const words = ['--jobs', '3', '--all', '--trace', 'a', 'b', '--all', '--', 'c'];
    expect(parseOptions(table, words)).toMatchObject({
      values: { jobs: '3', all: true, trace: '' },
      operands: ['a'],
      command: ['b', '--all', '--', 'c'],
    });
    expect(parseOptions(table, ['a', '--', 'b'])).toMatchObject({ operands: ['a'], command: ['b'] });
    expect(parseOptions(table, ['a']).command).toBeUndefined();
  });
});

describe('an unknown option', () => {
  const table = { name: 'copy', options: { resume: { about: '' }, rate: { value: 'N', about: '' } } } as const;

  it.each([
    [['--resum'], 'there is no option --resum: did you mean --resume? see farbus copy --help'],
    [['--rtae', '7'], 'there is no option --rtae: did you mean --rate? see farbus copy --help'],
    [['--rtae=7'], 'there is no option --rtae: did you mean --rate? see farbus copy --help'],
    [['--frob'], 'there is no option --frob; see farbus copy --help'],
    [['-x'], 'there is no option -x; see farbus copy --help'],
    [['--constructor'], 'there is no option --constructor; see farbus copy --help'],
    [['--__proto__=1'], 'there is no option --__proto__; see farbus copy --help'],
    [['--\x1b[2J'], 'there is no option --?[2J; see farbus copy --help'],
  ])('%j is answered with the one that was probably meant', (args, message) => {
    expect(() => parseOptions(table, args)).toThrow(message);
  });
});
