import { expect, it } from 'vitest';

it.each([0, 1, -1, NaN, Number(''), Number('\n'), 1.5])('a test cannot send a signal to process id %s', (pid) => {
  // Signal 0 would harm nothing if the guard were missing.
  expect(() => process.kill(pid, 0)).toThrow(`A test sends 0 to process ${pid}.`);
});
