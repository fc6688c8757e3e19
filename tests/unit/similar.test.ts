/** The guess behind "did you mean". */
import { describe, expect, it } from 'vitest';
import { similar } from '../../src/base/similar.js';

const known = ['serve', 'status', 'screenshot', 'copy', 'console', 'up', 'run', 'read-only', 'readahead'];

describe('the word that was probably meant', () => {
  it.each([
    ['serv', 'serve'],
    ['sreve', 'serve'],
    ['stauts', 'status'],
    ['cpoy', 'copy'],
    ['screen', 'screenshot'],
    ['rum', 'run'],
    ['read-olny', 'read-only'],
  ])('of %s is %s', (word, meant) => expect(similar(word, known)).toBe(meant));

  it('is the closest one, wherever it stands in the list', () => {
    expect(similar('offsets', ['onset', 'offset'])).toBe('offset');
  });

  it.each(['', 'x', 'serve', 'read', 'destroy', 'constructor', '__proto__', 'a'.repeat(1_000_000)])(
    'is not guessed if nothing is close, or several are: %.20s',
    (word) => expect(similar(word, known)).toBeUndefined(),
  );
});
