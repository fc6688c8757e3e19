/**
 * The memory size of a computer whose initramfs is large, and the messages of `farbus run` about
 * impossible packages.
 */
import { expect, it, test } from 'vitest';
import { memoryFor, type Guest } from '../../src/app/computer/start.js';
import { loadCommands } from '../../src/cli/commands/registry.js';
import type { CliIo } from '../../src/cli/ui/io.js';
import { command } from '../../src/cli/commands/run.js';
import { failure } from './guest-server.js';

const mebibyte = 1 << 20;

function guestOf(initramfs: number): Guest {
  const image = { bzImage: new Uint8Array(0), vmlinux: new Uint8Array(0), commandLine: '' };
  return { image: { ...image, initramfs: new Uint8Array(initramfs) }, id: '', version: '', readyText: undefined };
}

it("has a default for a small system, grows with a large one, and follows the user's choice if that is enough", () => {
  expect(memoryFor(guestOf(6 * mebibyte), undefined, 256 * mebibyte)).toBe(256 * mebibyte);
  expect(memoryFor(guestOf(44 * mebibyte), undefined, 256 * mebibyte)).toBe(352 * mebibyte);
  expect(memoryFor(guestOf(44 * mebibyte), 200 * mebibyte, 256 * mebibyte)).toBe(200 * mebibyte);
  expect(memoryFor({ ...guestOf(0), image: undefined }, undefined, 256 * mebibyte)).toBe(256 * mebibyte);
  expect(memoryFor(guestOf(400 * mebibyte), undefined, 256 * mebibyte)).toBe(1024 * mebibyte);
});

it('is refused if it is too little, with the least that works', () => {
  expect(() => memoryFor(guestOf(44 * mebibyte), 128 * mebibyte, 256 * mebibyte)).toThrow(
    /^a memory of 128 MiB is too little for this system, which is 44.0 MiB itself: 160M at least$/,
  );
  expect(memoryFor(guestOf(6 * mebibyte), 64 * mebibyte, 256 * mebibyte)).toBe(64 * mebibyte);
});

test.each<[string[], RegExp]>([
  [
    ['--with', 'tcpdump', '--kernel', 'x', '--snapshot-after', 'y'],
    /^--with is for Debian's system .* not for --kernel$/,
  ],
  [['--with', 'tcpdump', '--initrd', 'x'], /not for --initrd$/],
  [['--with', 'tcpdump', '--bios', '--drive', 'd.img'], /^--bios boots what is on the drives: leave --with out$/],
  [['--with', 'tcpdump,,hdparm'], /^--with tcpdump,,hdparm: expected names of packages/],
  [['--with', 'a/b'], /^"a\/b" cannot be the name of a Debian package$/],
])('%j is refused in one line', async (args, message) => {
  const stream = { isTTY: false, write: () => true };
  const io = { stdout: stream, stderr: stream, stdin: {}, env: process.env } as unknown as CliIo;
  expect((await failure(command.run([...args, '--quiet'], io, { commands: loadCommands }))).message).toMatch(message);
});
