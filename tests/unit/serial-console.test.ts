/** A guest's serial console for scripts: which part of the output a wait searches. */
import { describe, expect, it } from 'vitest';
import { SerialConsole } from '../../src/computer/console.js';

function consoleWith(text: string): SerialConsole {
  const console = new SerialConsole(() => Promise.resolve());
  for (const byte of Buffer.from(text)) console.receive(byte);
  return console;
}

describe('waitFor', () => {
  it('consumes the output up to the end of the match', async () => {
    const console = consoleWith('one two one');
    expect((await console.waitFor(/one/, 1000)).index).toBe(0);
    expect((await console.waitFor(/o\w*/, 1000))[0]).toBe('o');
    await expect(console.waitFor(/two/, 1)).rejects.toThrow('did not print /two/');
  });

  it('searches only the last characters if it is told how many, and consumes all before its match', async () => {
    const console = consoleWith('# first # last');
    await expect(console.waitFor(/first/, 1, 6)).rejects.toThrow('did not print');
    expect((await console.waitFor(/# /, 1000, 6))[0]).toBe('# ');
    await expect(console.waitFor(/first/, 1)).rejects.toThrow('did not print');
    expect((await console.waitFor(/last$/, 1000))[0]).toBe('last');
  });
});
