/**
 * `farbus run` is killed while a write of its guest is held up in the server's dd, and run again.
 * The write of the first guest must not land on that of the second one.
 *
 * The guest is a boot record of a few bytes, which the firmware starts (`--bios`). It reads a
 * letter from sector 1 and writes 4096 bytes of it at sector 8.
 */
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { holder, withHoldingSshd, imageSize, letterOf } from '../support/held-writes.js';
import { cannotSshd } from '../support/sshd.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { startFarbus } from './farbus.js';
import { until } from '../support/event-loop.js';

/** Offset of the guest's write, in bytes. */
const written = 8 * 512;

// prettier-ignore
const program = [
  0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, // cli; ds = es = 0
  0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, // ss:sp = 0:7c00; sti
  // Read sector 1 (cylinder 0, head 0, sector 2) to 8000. The firmware passes the drive in dl.
  0xb8, 0x01, 0x02, 0xbb, 0x00, 0x80, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13,
  // Fill 4096 bytes at 8000 with the letter.
  0xa0, 0x00, 0x80, 0xbf, 0x00, 0x80, 0xb9, 0x00, 0x10, 0xfc, 0xf3, 0xaa,
  // Write 8 sectors at sector 8 (cylinder 0, head 0, sector 9).
  0xb8, 0x08, 0x03, 0xbb, 0x00, 0x80, 0xb9, 0x09, 0x00, 0xb6, 0x00, 0xcd, 0x13,
  0xf4, 0xeb, 0xfd, // halt for ever
];

function bootImage(): string {
  const path = tempPath('disk.img');
  const disk = new Uint8Array(imageSize);
  disk.set(program);
  disk.set([0x55, 0xaa], 510);
  writeFileSync(path, disk);
  return path;
}

/** Sets the letter that the guest writes. */
function setLetter(path: string, letter: string): void {
  const file = openSync(path, 'r+');
  writeSync(file, new Uint8Array(512).fill(letter.charCodeAt(0)), 0, 512, 512);
  closeSync(file);
}

describe.skipIf(cannotSshd() !== undefined)('a write of a guest that dd holds up', () => {
  const folder = tempFolder();
  withHoldingSshd(folder);

  it('does not land after farbus run was killed and run again', async () => {
    const path = bootImage();
    const held = holder(`ssh+dd://test${path}`, path, folder);
    const args = ['run', '--bios', '--memory', '64M', '--drive', `${held.source},bus=ahci`];
    setLetter(path, 'A');
    held.arm();
    const first = startFarbus(...args);
    await held.caught();
    first.child.kill('SIGKILL');
    await first.ended;
    setLetter(path, 'B');
    const second = startFarbus(...args);
    // Without a fence the second guest's write ends long before.
    await Promise.race([until(() => letterOf(path, written) === 'B'), sleep(15_000)]);
    await held.release();
    await until(() => letterOf(path, written) === 'B');
    await sleep(500);
    expect(letterOf(path, written)).toBe('B');
    expect(second.stderr()).not.toMatch(/may still land/);
    second.child.kill('SIGKILL');
    await second.ended;
  });
});
