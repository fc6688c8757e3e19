/** Durations for people. */
import { expect, it } from 'vitest';
import { formatMs } from '../../src/base/format.js';

it('a short duration is told in µs, so that it does not look like none', () => {
  const shown = [0, 0.0004, 0.042, 0.0999, 0.1, 9.994, 10, 999.9, 1000].map(formatMs);
  expect(shown).toEqual(['0 µs', '0 µs', '42 µs', '100 µs', '0.10 ms', '9.99 ms', '10.0 ms', '999.9 ms', '1.0 s']);
});
