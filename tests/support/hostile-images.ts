/** Disk images by which a guest or a stranger could try to read files of the host. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ImageFormat } from '../../src/protocol/qemu/formats.js';

/**
 * 64 KiB that QEMU recognises as a VMDK: capacity 0, and an embedded descriptor with `extents`
 * lines.
 */
export function vmdkWithDescriptor(...extents: readonly string[]): Buffer {
  const bytes = Buffer.alloc(65_536);
  bytes.write('KDMV', 0, 'latin1');
  bytes.writeUInt32LE(1, 4);
  bytes.writeUInt32LE(3, 8);
  // Capacity 0 at byte 12; then the grain size, the descriptor's offset and size in sectors, and
  // the number of entries of a grain table.
  bytes.writeBigUInt64LE(128n, 20);
  bytes.writeBigUInt64LE(1n, 28);
  bytes.writeBigUInt64LE(2n, 36);
  bytes.writeUInt32LE(512, 44);
  bytes.writeBigUInt64LE(128n, 64);
  bytes.write('\n \r\n', 73, 'latin1');
  bytes.write(vmdkDescriptor(...extents), 512, 'latin1');
  return bytes;
}

/** The text of a VMDK descriptor with these extent lines. */
export function vmdkDescriptor(...extents: readonly string[]): string {
  const head = ['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff'];
  return [...head, 'createType="monolithicFlat"', ...extents, ''].join('\n');
}

export interface HostileImage {
  readonly what: string;
  readonly format: ImageFormat;
  readonly path: string;
}

/**
 * Images in `folder` that refer in every known way to `secret`, a file of at least 4096 bytes, or
 * to the NBD server at `nbd`.
 */
export function hostileImages(folder: string, secret: string, nbd: string): HostileImage[] {
  const list: HostileImage[] = [];
  const add = (what: string, format: ImageFormat, make: (path: string) => void): void => {
    const path = join(folder, `${list.length}.${format}`);
    make(path);
    list.push({ what, format, path });
  };
  /** Made without accessing the backing file. */
  const backed = (format: 'qcow2' | 'qed', name: string) => (path: string) =>
    void execFileSync('qemu-img', ['create', '-q', '-f', format, '-u', '-b', name, '-F', 'raw', path, '1M']);
  const text = (content: string | Buffer) => (path: string) => writeFileSync(path, content);
  add('a backing file', 'qcow2', backed('qcow2', secret));
  add('a backing file beside it', 'qcow2', backed('qcow2', 'secret'));
  add('a backing file with a protocol', 'qcow2', backed('qcow2', `file:${secret}`));
  add('a backing file as JSON', 'qcow2', backed('qcow2', `json:{"driver":"file","filename":"${secret}"}`));
  add('a backing file on a server', 'qcow2', backed('qcow2', nbd));
  add('a backing file', 'qed', backed('qed', secret));
  add('a file with the data', 'qcow2', (path) => {
    const data = join(folder, 'data');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data},data_file_raw=on`, path, '4k']);
    execFileSync('qemu-img', ['amend', '-q', '-f', 'qcow2', '-o', `data_file=${secret}`, path]);
  });
  add('a flat extent', 'vmdk', text(vmdkDescriptor(`RW 8 FLAT "${secret}" 0`)));
  add('a flat extent beside it', 'vmdk', text(vmdkDescriptor('RW 8 FLAT "secret" 0')));
  add('a sparse extent', 'vmdk', text(vmdkDescriptor(`RW 8 SPARSE "${secret}"`)));
  add('an extent with spaces before it', 'vmdk', text(vmdkDescriptor(`  RW   8 FLAT "${secret}" 0`)));
  add('an extent behind a NUL', 'vmdk', text(vmdkDescriptor(`# \0\nRW 8 FLAT "${secret}" 0`)));
  add('an embedded descriptor', 'vmdk', text(vmdkWithDescriptor(`RW 8 FLAT "${secret}" 0`)));
  add('a parent', 'vmdk', text(vmdkDescriptor(`parentFileNameHint="${secret}"`).replace('parentCID=f', 'parentCID=0')));
  return list;
}
