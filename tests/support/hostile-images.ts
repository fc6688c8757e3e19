/** Disk images that a guest or a stranger could make to reach files of the host. */

/** 64 KiB that QEMU takes for a VMDK: capacity 0, and an embedded descriptor with `extents` lines. */
export function vmdkWithDescriptor(...extents: readonly string[]): Buffer {
  const bytes = Buffer.alloc(65_536);
  bytes.write('KDMV', 0, 'latin1');
  bytes.writeUInt32LE(1, 4);
  bytes.writeUInt32LE(3, 8);
  // Capacity 0 at 12; grain size, descriptor's offset and size in sectors, entries of a grain table.
  bytes.writeBigUInt64LE(128n, 20);
  bytes.writeBigUInt64LE(1n, 28);
  bytes.writeBigUInt64LE(2n, 36);
  bytes.writeUInt32LE(512, 44);
  bytes.writeBigUInt64LE(128n, 64);
  bytes.write('\n \r\n', 73, 'latin1');
  bytes.write(vmdkDescriptor(...extents), 512, 'latin1');
  return bytes;
}

/** The text of a VMDK descriptor with these lines of extents. */
export function vmdkDescriptor(...extents: readonly string[]): string {
  const head = ['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff'];
  return [...head, 'createType="monolithicFlat"', ...extents, ''].join('\n');
}
