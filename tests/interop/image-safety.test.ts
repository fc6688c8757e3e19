/**
 * A disk's content cannot refer to files of this computer (docs/security.md, CVE-2008-2004): no
 * command reads or writes files that the content names.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parseSource } from '../../src/app/source-text.js';
import { openSource, type SourceOptions } from '../../src/app/sources.js';
import { buffersOf } from '../../src/base/buffers.js';
import { readBytes } from '../../src/conformance/subject.js';
import { hostileImages, vmdkDescriptor, vmdkWithDescriptor } from '../support/hostile-images.js';
import { missing } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbus, startFarbus } from './farbus.js';

const none = missing('qemu-nbd') || missing('qemu-img') || missing('nbdcopy');

const secretText = 'SECRET'.repeat(1024).slice(0, 4096);

/** A folder with a file that no command may access. */
function withSecret(): { folder: string; secret: string; intact: () => void } {
  const folder = tempFolder();
  const secret = join(folder, 'secret');
  writeFileSync(secret, secretText);
  return { folder, secret, intact: () => expect(readFileSync(secret, 'utf8')).toBe(secretText) };
}

/** Contents that a guest can write to a raw disk. */
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

  it('stays a raw disk for info, attach and copy', async () => {
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

  it('is overwritten as a raw disk by copy', async () => {
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
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(
        /^farbus: [^\n]*disk\.vmdk takes content from another file, disk-flat\.vmdk[^\n]*\n$/,
      );
    }
  });

  it('is refused if its content is no image', async () => {
    const disk = join(tempFolder(), 'disk.qcow2');
    writeFileSync(disk, Buffer.alloc(4096));
    const refused = await farbus('info', disk);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^farbus: [^\n]*disk\.qcow2 has the name of a qcow2 image[^\n]*raw:PATH[^\n]*\n$/);
    writeFileSync(disk, vmdkWithDescriptor('RW 8 FLAT "/etc/hostname" 0'));
    expect((await farbus('info', disk)).code).toBe(1);
  });
});

/** A server that counts its connections, and the addresses by which images refer to it. */
async function countingServer(): Promise<{ uri: string; connections: () => number; close: () => void }> {
  let connections = 0;
  const server = createServer((socket) => (connections++, socket.destroy()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { uri: `nbd://127.0.0.1:${port}`, connections: () => connections, close: () => server.close() };
}

const quiet: SourceOptions = { log: { log: () => undefined } };

describe.skipIf(none).each(['a sandbox', 'no sandbox'])('an image that names other files, with %s', (sandbox) => {
  afterEach(() => void delete process.env['FARBUS_NO_SANDBOX']);
  const start = (): void => {
    if (sandbox === 'no sandbox') process.env['FARBUS_NO_SANDBOX'] = '1';
  };

  it('is not opened under any name', async () => {
    start();
    const { folder, secret, intact } = withSecret();
    const server = await countingServer();
    for (const { what, format, path } of hostileImages(folder, secret, server.uri)) {
      for (const source of [path, `${format}:${path}`]) {
        await expect(openSource(parseSource(source), quiet), what).rejects.toThrow(
          /not opened|another file|not understood|not a whole/,
        );
      }
    }
    intact();
    expect(server.connections()).toBe(0);
    server.close();
  });

  it('is refused by every command, in a line', async () => {
    start();
    const { folder, secret, intact } = withSecret();
    const raw = join(folder, 'raw');
    writeFileSync(raw, Buffer.alloc(4096, 0x61));
    const wanted = ['a flat extent', 'a file with the data'];
    const images = hostileImages(folder, secret, 'nbd://127.0.0.1:1').filter(({ what }) => wanted.includes(what));
    expect(images.length).toBe(2);
    for (const { path, format } of images) {
      for (const args of [
        ['info', path],
        ['serve', `${format}:${path}`, '--listen', `nbd+unix:///?socket=${join(folder, 'socket')}`],
        ['copy', path, join(folder, 'out')],
        ['copy', raw, path],
        ['attach', path, '--', 'nbdcopy', '{nbd}', join(folder, 'out')],
        ['run', '--drive', path, '--exec', 'true'],
      ]) {
        const refused = await farbus(...args);
        expect(refused.code, args[0]).toBeGreaterThan(0);
        expect(refused.stderr, args[0]).toMatch(/^farbus: [^\n]*takes content from another file/m);
      }
    }
    intact();
  });

  it('is opened with exactly the files that the user allows', async () => {
    start();
    const folder = tempFolder();
    const at = (name: string): string => join(folder, name);
    const img = (...args: string[]): void => void execFileSync('qemu-img', args);
    writeFileSync(at('base.img'), Buffer.alloc(1 << 20, 0x62));
    img('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw', at('middle.qcow2'));
    img('create', '-q', '-f', 'qcow2', '-b', at('middle.qcow2'), '-F', 'qcow2', at('top.qcow2'));
    const one = { ...quiet, filters: { 'may-open': [at('middle.qcow2')] } };
    await expect(openSource(parseSource(at('top.qcow2')), one)).rejects.toThrow(
      /middle\.qcow2 takes content from another file, base\.img/,
    );
    for (const mayOpen of [[at('middle.qcow2'), at('base.img')], [folder]]) {
      const disk = await openSource(parseSource(at('top.qcow2')), { ...quiet, filters: { 'may-open': mayOpen } });
      expect(await readBytes(disk, 65_536, 4096)).toEqual(new Uint8Array(4096).fill(0x62));
      await disk.write(0, buffersOf(new Uint8Array(4096).fill(0x63)));
      await disk.close();
    }
    expect(readFileSync(at('base.img')).equals(Buffer.alloc(1 << 20, 0x62))).toBe(true);

    img('create', '-q', '-f', 'qcow2', '-o', `data_file=${at('data')}`, at('external.qcow2'), '1M');
    img('create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentFlat', at('flat.vmdk'), '1M');
    img('create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', at('sparse.vmdk'), '1M');
    img('create', '-q', '-f', 'vmdk', at('parent.vmdk'), '1M');
    img('create', '-q', '-f', 'vmdk', '-b', at('parent.vmdk'), '-F', 'vmdk', at('child.vmdk'));
    img('create', '-q', '-f', 'qed', '-b', at('base.img'), '-F', 'raw', at('top.qed'));
    for (const name of ['external.qcow2', 'flat.vmdk', 'sparse.vmdk', 'child.vmdk', 'top.qed']) {
      await expect(openSource(parseSource(at(name)), quiet), name).rejects.toThrow(/another file/);
      const bytes = new Uint8Array(4096).fill(0x64);
      for (const write of [true, false]) {
        const disk = await openSource(parseSource(at(name)), {
          ...quiet,
          filters: { 'may-open': [folder] },
          readOnly: !write,
        });
        if (write) await disk.write(8192, buffersOf(bytes));
        expect(await readBytes(disk, 8192, 4096), name).toEqual(bytes);
        await disk.close();
      }
    }
  });
});

const noLoop = cannotLoop();

describe.skipIf(none || noLoop !== undefined)('a block device', () => {
  it('is raw bytes whatever its name and content are, unless its format is given', async () => {
    const { folder, secret, intact } = withSecret();
    const disk = join(folder, 'disk');
    writeFileSync(disk, vmdkWithDescriptor(`RW 8 FLAT "${secret}" 0`));
    const device = attachLoop(disk);
    const link = join(folder, 'disk.vmdk');
    symlinkSync(device, link);
    for (const path of [device, link]) {
      const told = await farbus('info', '--json', path);
      expect(JSON.parse(told.stdout)).toMatchObject({ size: 65_536 });
      // Devices are not probed for image formats: no warning.
      expect(told.stderr).toBe('');
    }
    expect((await farbus('info', `vmdk:${device}`)).stderr).toMatch(/^farbus: [^\n]*is not opened[^\n]*\n$/);
    const from = join(folder, 'from');
    writeFileSync(from, Buffer.alloc(65_536, 0x61));
    expect(await farbus('copy', from, link)).toMatchObject({ code: 0 });
    intact();
    const image = join(folder, 'image');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=full', image, '1M']);
    const withImage = attachLoop(image);
    expect((await farbus('info', `qcow2:${withImage}`)).stdout).toContain('1.0 MiB (1048576 bytes)');
    expect(await farbus('copy', from, `qcow2:${withImage}`, '--verify')).toMatchObject({ code: 0 });
  });
});

describe.skipIf(none)('a VHD of fixed size', () => {
  it('is recognised by its name and footer, and its first bytes belong to its disk', async () => {
    const path = join(tempFolder(), 'disk.vhd');
    execFileSync('qemu-img', ['create', '-q', '-f', 'vpc', '-o', 'subformat=fixed,force_size=on', path, '1M']);
    const disk = await openSource(parseSource(path), quiet);
    expect(disk.info.size).toBe(1 << 20);
    const header = Buffer.alloc(512);
    header.write('conectix');
    header[63] = 4;
    await disk.write(0, buffersOf(header));
    await disk.close();
    const again = await openSource(parseSource(path), quiet);
    expect(again.info.size).toBe(1 << 20);
    expect(Buffer.from(await readBytes(again, 0, 512)).equals(header)).toBe(true);
    await again.close();
  });
});

describe.skipIf(none)('the options that allow files', () => {
  it('are accepted on the command line, in a source and in a configuration file', async () => {
    const folder = tempFolder();
    const at = (name: string): string => join(folder, name);
    writeFileSync(at('base.img'), Buffer.alloc(1 << 20, 0x62));
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw', at('top.qcow2')]);
    const raw = at('out.img');
    for (const args of [
      [at('top.qcow2'), '--may-open', tempFolder(), '--may-open', at('base.img')],
      [`${at('top.qcow2')},may-open=${folder}`],
    ]) {
      const told = await farbus('info', '--json', ...args);
      expect(told, told.stderr).toMatchObject({ code: 0 });
    }
    const copied = await farbus('copy', `qcow2:${at('top.qcow2')}`, raw, '--may-open', at('base.img'));
    expect(copied, copied.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(raw).equals(readFileSync(at('base.img')))).toBe(true);
    const settings = at('serve.yaml');
    const socket = at('nbd.sock');
    const one = { source: at('top.qcow2'), name: 'x', 'may-open': [at('base.img')] };
    writeFileSync(settings, JSON.stringify({ listen: [`nbd+unix:///?socket=${socket}`], exports: [one] }));
    const serving = startFarbus('serve', '--config', settings);
    await serving.printed(/nbd\+unix/);
    expect(await execute('nbdcopy', [`nbd+unix:///x?socket=${socket}`, raw])).toMatchObject({ code: 0 });
    expect(readFileSync(raw).equals(readFileSync(at('base.img')))).toBe(true);
    serving.child.kill('SIGTERM');
    await serving.ended;
  });
});
