/** UEFI's variables in a file. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { UefiVariables } from '../../src/app/computer/uefi-variables.js';
import { tempFolder } from '../support/temp.js';

const log = { log: () => undefined };
const initial = Buffer.alloc(0x2000, 0xff);
initial.write('_FVH', 40, 'latin1');

it('are those of the firmware at first, and the kept ones later', async () => {
  const path = join(tempFolder(), 'vars');
  const first = await UefiVariables.open(path, initial, log);
  expect(Buffer.from(first.content).equals(initial)).toBe(true);
  await first.close();
  expect(existsSync(path)).toBe(false); // nothing has changed
  const flash = Uint8Array.from(first.content);
  flash[0x1000] = 7;
  first.changed(flash);
  flash[0x1001] = 8;
  await first.close();
  const second = await UefiVariables.open(path, initial, log);
  expect([...second.content.subarray(0x1000, 0x1003)]).toEqual([7, 8, 0xff]);
  await second.close();
});

it('are forgotten without a file', async () => {
  const variables = await UefiVariables.open(undefined, initial, log);
  variables.changed(initial);
  await variables.close();
});

it.each([
  ['another size', Buffer.alloc(0x1000)],
  ['other content', Buffer.alloc(initial.length)],
])('refuse a file of %s, and leave it', async (_, content) => {
  const path = join(tempFolder(), 'vars');
  writeFileSync(path, content);
  await expect(UefiVariables.open(path, initial, log)).rejects.toThrow('has no variables of this UEFI firmware');
  expect(readFileSync(path).equals(content)).toBe(true);
});

it('tell that they cannot be kept', async () => {
  const said: string[] = [];
  const folder = tempFolder();
  const path = join(folder, 'there', 'vars');
  const variables = await UefiVariables.open(path, initial, { log: (_, text) => said.push(text) });
  writeFileSync(join(folder, 'there'), 'no folder');
  variables.changed(initial);
  await variables.close();
  expect(said.join()).toContain("cannot keep UEFI's variables");
});

it('refuse at once what is no file, and a file without an end', async () => {
  const folder = tempFolder();
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  for (const path of [pipe, '/dev/zero', folder]) {
    await expect(UefiVariables.open(path, initial, log)).rejects.toThrow('has no variables of this UEFI firmware');
  }
});

it('of one computer do not replace those that another has kept in the file', async () => {
  const path = join(tempFolder(), 'vars');
  const said: string[] = [];
  const first = await UefiVariables.open(path, initial, log);
  const second = await UefiVariables.open(path, initial, { log: (_, text) => said.push(text) });
  const flash = Uint8Array.from(initial);
  for (const value of [7, 8]) {
    flash[0x1000] = value;
    first.changed(flash);
    await first.close();
  }
  second.changed(initial);
  await second.close();
  expect(said.join()).toContain('another computer or program has changed');
  expect(readFileSync(path)[0x1000]).toBe(8);
});
