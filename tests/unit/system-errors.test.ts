/** The messages of failed system calls, for people. */
import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { messageOf } from '../../src/base/errors.js';
import { tempFolder } from '../support/temp.js';

function failureOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

it('have the words first, then the path and the code', () => {
  const path = join(tempFolder(), 'none, open');
  expect(messageOf(failureOf(() => readFileSync(path)))).toMatch(
    /^no such file or directory: .*\/none, open \(ENOENT\)$/,
  );
  expect(messageOf(failureOf(() => writeSync(1_000_000, 'x')))).toBe('bad file descriptor (EBADF)');
});

it('stay as they are if they have another form', () => {
  const other = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), {
    code: 'ECONNREFUSED',
    syscall: 'connect',
  });
  expect(messageOf(other)).toBe('connect ECONNREFUSED 127.0.0.1:1');
  expect(messageOf(Object.assign(new Error('EIO: bad'), { code: 'EIO' }))).toBe('EIO: bad');
  expect(messageOf('EIO: bad, read')).toBe('EIO: bad, read');
});
