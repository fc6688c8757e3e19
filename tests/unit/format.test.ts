/** Durations for people. */
import { expect, it } from 'vitest';
import { formatMs } from '../../src/base/format.js';

it('a short duration has more digits, so that it does not look like none', () => {
  const shown = [0, 0.0004, 0.0042, 0.042, 9.994, 10, 999.9, 1000].map(formatMs);
  const expected = ['0.000', '0.000', '0.004', '0.04', '9.99', '10.0', '999.9'].map((ms) => `${ms} ms`);
  expect(shown).toEqual([...expected, '1.0 s']);
});
