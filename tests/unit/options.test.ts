/** Values of options, and what is said of wrong ones. */
import { describe, expect, it } from 'vitest';
import { numberOption, sizeOption } from '../../src/cli/options.js';

const GiB = 2 ** 30;

describe('a size', () => {
  it('is taken within its limits', () => {
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
  ])('%s is not within %i and %i, and it is said what is', (text, min, max, expected) => {
    expect(() => sizeOption('memory', text, min, max)).toThrow(`--memory ${text}: expected a size ${expected}`);
  });
});

it('a number is a whole one within its limits', () => {
  expect(numberOption('drive', '31', 0, 31)).toBe(31);
  for (const text of ['32', '-1', '1.5', '', '0x1']) {
    expect(() => numberOption('drive', text, 0, 31)).toThrow(`--drive ${text}: expected a whole number from 0 to 31`);
  }
});
