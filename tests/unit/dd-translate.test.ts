/**
 * The translation of requests into runs of dd ([SYS] steps 422 and 425), and the script's quoting,
 * checked by a real shell.
 */
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ddError } from '../../src/protocol/dd/errors.js';
import { assign, script, startCommand } from '../../src/protocol/dd/script.js';
import { divide, translate } from '../../src/protocol/dd/translate.js';
import { divideEvenly } from '../../src/protocol/sftp/device.js';

describe('translation', () => {
  it('in bytes: one unit, position and count in bytes, a last record that is partial', () => {
    expect(translate({ offset: 4096, length: 65536 }, { bytes: true })).toEqual({
      unit: 65536,
      position: 4096,
      count: 65536,
      records: '1+0',
    });
    expect(translate({ offset: 1, length: 65537 }, { bytes: true }).records).toBe('1+1');
  });

  it('in blocks: the largest power of two that covers the request exactly', () => {
    const part = fc.record({ offset: fc.nat(2 ** 40), length: fc.integer({ min: 1, max: 2 ** 20 }) });
    fc.assert(
      fc.property(part, ({ offset, length }) => {
        const { unit, position, count, records } = translate({ offset, length }, { bytes: false });
        expect(position * unit).toBe(offset);
        expect(count * unit).toBe(length);
        expect(records).toBe(`${count}+0`);
        expect(Math.log2(unit) % 1).toBe(0);
      }),
    );
  });

  it('parts cover a request exactly, and only its ends have a small unit', () => {
    const request = fc.record({
      offset: fc.nat(2 ** 40),
      length: fc.integer({ min: 1, max: 2 ** 22 }),
      bytes: fc.boolean(),
    });
    fc.assert(
      fc.property(request, ({ offset, length, bytes }) => {
        const parts = divide(offset, length, 1 << 20, bytes);
        let at = offset;
        for (const part of parts) {
          expect(part.offset).toBe(at);
          expect(part.length).toBeGreaterThan(0);
          expect(part.length).toBeLessThanOrEqual(1 << 20);
          at += part.length;
        }
        expect(at).toBe(offset + length);
        if (bytes) return;
        const poor = parts.filter((part) => translate(part, { bytes: false }).unit < 4096);
        expect(poor.reduce((sum, part) => sum + part.length, 0)).toBeLessThan(2 * 4096 + 4096 * parts.length);
      }),
    );
  });

  it('SFTP: as few parts as possible, of about equal length', () => {
    const request = fc.record({
      length: fc.integer({ min: 1, max: 2 ** 25 }),
      most: fc.integer({ min: 4096, max: 261120 }),
    });
    fc.assert(
      fc.property(request, ({ length, most }) => {
        const parts = divideEvenly(512, length, most);
        expect(parts.reduce((sum, part) => sum + part.length, 0)).toBe(length);
        for (const part of parts) expect(part.length > 0 && part.length <= most).toBe(true);
        expect(parts[0]!.offset).toBe(512);
      }),
    );
  });
});

describe('the script', () => {
  it('is one line, and the start command means the same to every shell', () => {
    const names = { token: 'farbus-0', marker: '00112233' };
    const text = script({ path: "/a\n'b`$(c)\\", readOnly: false, names });
    expect(text.indexOf('\n')).toBe(text.length - 1);
    // A shell that echoes its input must not print the marker.
    expect(text).not.toContain(names.marker);
    expect(startCommand('farbus-0')).not.toMatch(/[\n!\\`]/);
  });

  it('quotes any text so that a shell reproduces it exactly', () => {
    const text = fc.string({ unit: 'binary', maxLength: 60 }).map((string) => string.replaceAll('\0', ''));
    const samples = [...fc.sample(text, 40), '-n', '-', '', '\n\n', '%s%d', '\\n', "'", '$(id)', '\u{1f4be}'];
    for (const shell of ['sh', 'bash']) {
      const lines = samples.map(
        (sample) => `${assign('f', sample)} printf '%s' "$f" | od -An -tx1 | tr -d ' \\n'; echo;`,
      );
      const { stdout } = spawnSync(shell, ['-c', lines.join('\n')], {
        encoding: 'utf8',
        env: { ...process.env, LC_ALL: 'C' },
      });
      expect(stdout.split('\n').slice(0, -1)).toEqual(samples.map((sample) => Buffer.from(sample).toString('hex')));
    }
  });
});

describe("dd's messages", () => {
  it.each([
    ["dd: error writing '/dev/sdb': No space left on device", 'no-space'],
    ["dd: failed to open '/dev/sdb': Read-only file system", 'read-only'],
    ["dd: failed to open '/dev/sdb': Permission denied", 'read-only'],
    ["dd: error reading '/dev/sr0': No medium found", 'no-medium'],
    ["dd: error reading '/dev/sdb': Input/output error", 'io'],
    ['', 'io'],
  ] as const)('%j', (said, kind) => {
    const error = ddError('ssh://h/x', 'write 0+512', 1, said);
    expect(error.kind).toBe(kind);
    expect(error.message).toMatch(/^ssh:\/\/h\/x: write 0\+512: ./);
  });
});
