/** Text from others in messages, on terminals and in logs. */
import { describe, expect, it } from 'vitest';
import { messageOf } from '../../src/base/errors.js';
import { jsonLine, printable, visible } from '../../src/base/printable.js';

/**
 * ESC, a C1 control sequence introducer, a bidirectional override, a zero-width space, a line
 * separator.
 */
const bad = '\u001b[31m\u009b2J\u202e\u200b\u2028\r\n\t\0';
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

describe('text from others', () => {
  it('appears in a message on one line, without hidden characters, of bounded length', () => {
    expect(printable(`  a${bad}b  `)).toBe('a [31m 2J b');
    expect(printable('x'.repeat(301))).toBe(`${'x'.repeat(300)}...`);
    expect(printable('\u001b'.repeat(2000))).toBe('...');
    expect(printable('x'.repeat(20), 10)).toBe(`${'x'.repeat(10)}...`);
    expect(messageOf(new Error(`said: ${bad}!`))).not.toMatch(hidden);
    expect(messageOf(new Error('x'.repeat(10_000))).length).toBeLessThan(600);
  });

  it('keeps its layout within a line', () => {
    expect(visible('a  b\u001b\u202ec\n')).toBe('a  b??c?');
  });

  it('is the same value in JSON, with every hidden character as an escape', () => {
    const value = { text: `a${bad}\u{e0001}b` };
    const line = jsonLine(value);
    expect(line.slice(0, -1)).not.toMatch(hidden);
    expect(line.endsWith('\n')).toBe(true);
    expect(JSON.parse(line)).toEqual(value);
  });
});
