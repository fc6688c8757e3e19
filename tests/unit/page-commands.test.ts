/** The table of commands on the console page: its filter, and the files that a user saves. */
import { describe, expect, it } from 'vitest';
import { noFilter, passes, toCsv, toJson, type Command } from '../../src/web/page/flow/command.js';

const read: Command = {
  key: '1',
  kind: 'read',
  disk: 'disk.img',
  client: 'desk',
  began: Date.UTC(2026, 0, 1),
  offset: 4096,
  length: 512,
  ms: 1.5,
  parts: { computer: 0.25, network: 1, disk: 0.125 },
  failed: undefined,
};
const flush: Command = { ...read, key: '2', kind: 'flush', offset: undefined, length: 0, ms: undefined, parts: {} };

describe('the filter', () => {
  it('finds a text in the names of the disk and the client, in any case', () => {
    expect(passes(read, { ...noFilter, text: ' DESK ' })).toBe(true);
    expect(passes(read, { ...noFilter, text: 'other' })).toBe(false);
  });

  it('shows one kind of command, or those that are neither reads nor writes', () => {
    expect([read, flush].filter((one) => passes(one, { ...noFilter, kind: 'read' }))).toEqual([read]);
    expect([read, flush].filter((one) => passes(one, { ...noFilter, kind: 'other' }))).toEqual([flush]);
  });

  it('compares the time of the disk if the time of the whole way is not known', () => {
    const served = { ...read, ms: undefined };
    expect(passes(served, { ...noFilter, atLeastMs: 0.1 })).toBe(true);
    expect(passes(served, { ...noFilter, atLeastMs: 1 })).toBe(false);
    expect(passes(read, { ...noFilter, atLeastMs: 1 })).toBe(true);
  });

  it('shows only failed commands', () => {
    expect(passes(read, { ...noFilter, failedOnly: true })).toBe(false);
    expect(passes({ ...read, failed: 'no space' }, { ...noFilter, failedOnly: true })).toBe(true);
  });
});

describe('a saved file', () => {
  it('is CSV with a header; times that are not known are empty', () => {
    const [header, first, second, end] = toCsv([read, flush]).split('\r\n');
    expect(header).toBe(
      'began,command,disk,client,offset_bytes,length_bytes,total_ms,computer_ms,network_ms,disk_ms,completion_ms,error',
    );
    expect(first).toBe('2026-01-01T00:00:00.000Z,read,disk.img,desk,4096,512,1.500,0.250,1.000,0.125,,');
    expect(second).toBe('2026-01-01T00:00:00.000Z,flush,disk.img,desk,,0,,,,,,');
    expect(end).toBe('');
  });

  it('quotes a name with a comma or quotes, and disarms one that a spreadsheet would execute', () => {
    const csv = toCsv([{ ...read, disk: 'a,"b"', client: '=cmd()' }]);
    expect(csv).toContain('"a,""b""",\'=cmd()');
  });

  it('is JSON with the same facts', () => {
    expect(JSON.parse(toJson([{ ...read, failed: 'no space' }]))).toEqual([
      {
        began: '2026-01-01T00:00:00.000Z',
        command: 'read',
        disk: 'disk.img',
        client: 'desk',
        offset: 4096,
        length: 512,
        ms: 1.5,
        parts: { computer: 0.25, network: 1, disk: 0.125 },
        error: 'no space',
      },
    ]);
  });
});
