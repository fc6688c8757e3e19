/**
 * A disk cannot name files of this computer (docs/security.md, CVE-2008-2004): what its content names is neither read
 * nor written, by any command.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { vmdkDescriptor, vmdkWithDescriptor } from '../support/hostile-images.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbus, startFarbus } from './farbus.js';

const none = missing('qemu-nbd') || missing('qemu-img') || missing('nbdcopy');

const secretText = 'SECRET'.repeat(1024).slice(0, 4096);

/** A folder with a file that no command may reach. */
function withSecret(): { folder: string; secret: string; intact: () => void } {
  const folder = tempFolder();
  const secret = join(folder, 'secret');
  writeFileSync(secret, secretText);
  return { folder, secret, intact: () => expect(readFileSync(secret, 'utf8')).toBe(secretText) };
}

/** Contents that a guest can give to a raw disk. */
async function guestMade(folder: string, secret: string): Promise<[string, Buffer][]> {
  const qcow2 = join(folder, 'made');
  await execute('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'raw', qcow2]);
  return [
    ['vmdk', vmdkWithDescriptor(`RW 8 FLAT "${secret}" 0`)],
    ['vmdk', Buffer.from(vmdkDescriptor(`RW 8 FLAT "${secret}" 0`).padEnd(65_536, '\n'))],
    ['qcow2', Buffer.concat([readFileSync(qcow2), Buffer.alloc(65_536)]).subarray(0, 262_144)],
  ];
}

describe.skipIf(none)('a raw disk whose guest made it look like an image', () => {
  it('stays a raw disk when it is served, and a line warns', async () => {
    const { folder, secret, intact } = withSecret();
    for (const [format, content] of await guestMade(folder, secret)) {
      const disk = join(folder, 'disk.img');
      writeFileSync(disk, content);
      const socket = join(folder, `nbd-${format}.sock`);
      const serving = startFarbus('serve', disk, '--listen', `nbd+unix:///?socket=${socket}`);
      await serving.printed(/nbd\+unix/);
      const uri = `nbd+unix:///disk.img?socket=${socket}`;
      const out = join(folder, 'out');
      expect(await execute('nbdcopy', [uri, out])).toMatchObject({ code: 0 });
      expect(readFileSync(out).equals(content), format).toBe(true);
      const zeroes = join(folder, 'zeroes');
      writeFileSync(zeroes, Buffer.alloc(content.length));
      expect(await execute('nbdcopy', [zeroes, uri])).toMatchObject({ code: 0 });
      expect(readFileSync(disk).equals(Buffer.alloc(content.length))).toBe(true);
      intact();
      expect(serving.stderr()).toContain(`disk.img looks like a ${format} image and is used as raw bytes`);
      serving.child.kill('SIGTERM');
      await serving.ended;
    }
  });

  it('stays a raw disk for info, attach and copy from it', async () => {
    const { folder, secret, intact } = withSecret();
    for (const [, content] of await guestMade(folder, secret)) {
      const disk = join(folder, 'disk.img');
      writeFileSync(disk, content);
      const told = await farbus('info', '--json', disk);
      expect(JSON.parse(told.stdout)).toMatchObject({ size: content.length });
      const out = join(folder, 'out.img');
      const copied = await farbus('copy', disk, out, '--verify');
      expect(copied, copied.stderr).toMatchObject({ code: 0 });
      expect(readFileSync(out).equals(content)).toBe(true);
      const attached = await farbus('attach', disk, '--', 'nbdcopy', '{nbd}', join(folder, 'attached'));
      expect(attached, attached.stderr).toMatchObject({ code: 0 });
      expect(readFileSync(join(folder, 'attached')).equals(content)).toBe(true);
      writeFileSync(out, '');
      intact();
    }
  });

  it('is written over as a raw disk by copy', async () => {
    const { folder, secret, intact } = withSecret();
    const disk = join(folder, 'disk.img');
    for (const [, content] of await guestMade(folder, secret)) {
      writeFileSync(disk, content);
      const from = join(folder, 'from.img');
      writeFileSync(from, Buffer.alloc(content.length, 0x61));
      const copied = await farbus('copy', from, disk);
      expect(copied, copied.stderr).toMatchObject({ code: 0 });
      expect(readFileSync(disk).equals(readFileSync(from))).toBe(true);
      intact();
    }
  });
});

describe.skipIf(none)('a file with the name of an image', () => {
  it('is not served as raw bytes when it is a descriptor of fewer than 512 bytes', async () => {
    const folder = tempFolder();
    const disk = join(folder, 'disk.vmdk');
    await execute('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', disk, '1M']);
    expect(readFileSync(disk).length).toBeLessThan(512);
    for (const args of [
      ['copy', disk, join(folder, 'out.raw'), '--verify'],
      ['info', disk],
    ]) {
      const refused = await farbus(...args);
      expect(refused.code).toBe(2);
      expect(refused.stderr).toMatch(/^farbus: [^\n]*disk\.vmdk is a vmdk image that takes content from[^\n]*\n$/);
    }
  });

  it('is refused where its content is not one', async () => {
    const disk = join(tempFolder(), 'disk.qcow2');
    writeFileSync(disk, Buffer.alloc(4096));
    const refused = await farbus('info', disk);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^farbus: [^\n]*disk\.qcow2 has the name of a qcow2 image[^\n]*raw:PATH[^\n]*\n$/);
    writeFileSync(disk, vmdkWithDescriptor('RW 8 FLAT "/etc/hostname" 0'));
    expect((await farbus('info', disk)).code).toBe(2);
  });
});
