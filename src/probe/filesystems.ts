/**
 * Probes for file systems and other content, and their order. Sources: the description of each
 * format; blkid(8) for the names.
 *
 * Not here: checks that the content is intact. Only type, label and UUID are read.
 */
import { content, type ContentProbe } from './content.js';
import { exfat, ntfs, vfat } from './dos-filesystems.js';
import { iso9660, udf } from './optical.js';
import { signatureProbe, type Signature } from './signature.js';
import { diskText, uuidText } from './text.js';
import { luks2Second, nilfs2, nilfs2Second } from './second-copies.js';
import { linuxRaid, lvm, swap, zfsMember } from './volumes.js';

/**
 * ext2, ext3, ext4 and journal devices, which differ by their features (Linux,
 * Documentation/filesystems/ext4).
 */
const ext: ContentProbe = async (reader) => {
  const view = await reader.view(1024, 264);
  if (!view || view.getUint16(56, true) !== 0xef53 || view.getUint32(24, true) > 6) return undefined;
  const [compatible, incompatible, readOnly] = [92, 96, 100].map((at) => view.getUint32(at, true)) as [
    number,
    number,
    number,
  ];
  const bytes = new Uint8Array(view.buffer);
  // ext3 supports filetype, recover and meta_bg; sparse_super, large_file and btree_dir. More is
  // ext4.
  const beyond3 = (incompatible & ~(0x2 | 0x4 | 0x10)) !== 0 || (readOnly & ~0x7) !== 0;
  const type = incompatible & 0x8 ? 'jbd' : beyond3 ? 'ext4' : compatible & 0x4 ? 'ext3' : 'ext2';
  return content('filesystem', type, diskText(bytes.subarray(120, 136)), uuidText(bytes.subarray(104, 120)));
};

/**
 * UFS: a magic number at the end of the superblock, in either byte order. Each version has its own
 * place.
 */
const ufs: ContentProbe = async (reader) => {
  for (const [base, magic] of [
    [65536, 0x19540119],
    [8192, 0x19540119],
    [8192, 0x00011954],
    [262144, 0x19540119],
  ] as const) {
    const view = await reader.view(base, 1376);
    const little = view?.getUint32(1372, true) === magic;
    if (!view || !(little || view.getUint32(1372) === magic)) continue;
    const id = [144, 148].map((at) => view.getUint32(at, little).toString(16).padStart(8, '0')).join('');
    const label = magic === 0x19540119 ? diskText(new Uint8Array(view.buffer, 680, 32)) : '';
    return content('filesystem', 'ufs', label, /^0+$/.test(id) ? undefined : id);
  }
  return undefined;
};

const ascii = (at: number, ...texts: string[]): Signature['magic'] => texts.map((bytes) => ({ at, bytes }));
const raw = (at: number, ...bytes: number[]): Signature['magic'] => [{ at, bytes }];
const luks = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];

const signatures = {
  luks1: {
    type: 'crypto_LUKS',
    kind: 'crypto',
    base: 0,
    magic: raw(0, ...luks, 0, 1),
    uuidText: { at: 168, length: 40 },
  },
  luks2: {
    type: 'crypto_LUKS',
    kind: 'crypto',
    base: 0,
    magic: raw(0, ...luks, 0, 2),
    label: { at: 24, length: 48 },
    uuidText: { at: 168, length: 40 },
  },
  bitlocker: { type: 'BitLocker', kind: 'crypto', base: 0, magic: ascii(3, '-FVE-FS-') },
  xfs: { type: 'xfs', base: 0, magic: ascii(0, 'XFSB'), uuid: 32, label: { at: 108, length: 12 } },
  btrfs: {
    type: 'btrfs',
    base: 65536,
    magic: ascii(64, '_BHRfS_M'),
    uuid: 32,
    label: { at: 299, length: 256 },
  },
  f2fs: {
    type: 'f2fs',
    base: 1024,
    magic: raw(0, 0x10, 0x20, 0xf5, 0xf2),
    uuid: 108,
    label: { at: 124, length: 1024, encoding: 'utf-16le' },
  },
  squashfs: { type: 'squashfs', base: 0, magic: ascii(0, 'hsqs', 'sqsh') },
  erofs: {
    type: 'erofs',
    base: 1024,
    magic: raw(0, 0xe2, 0xe1, 0xf5, 0xe0),
    uuid: 48,
    label: { at: 64, length: 16 },
  },
  hfsplus: { type: 'hfsplus', base: 1024, magic: ascii(0, 'H+\0\x04', 'HX\0\x05') },
  hfs: { type: 'hfs', base: 1024, magic: ascii(0, 'BD') },
  apfs: { type: 'apfs', base: 0, magic: ascii(32, 'NXSB'), uuid: 72 },
  jfs: { type: 'jfs', base: 32768, magic: ascii(0, 'JFS1'), uuid: 136, label: { at: 152, length: 16 } },
  reiserfs: {
    type: 'reiserfs',
    base: 65536,
    magic: ascii(52, 'ReIsErFs', 'ReIsEr2Fs', 'ReIsEr3Fs'),
    uuid: 84,
    label: { at: 100, length: 16 },
  },
  bcachefs: {
    type: 'bcachefs',
    base: 4096,
    magic: raw(24, 0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef),
    uuid: 56,
    label: { at: 72, length: 32 },
  },
  qcow2: { type: 'qcow2', kind: 'image', base: 0, magic: raw(0, 0x51, 0x46, 0x49, 0xfb) },
  vmdk: { type: 'vmdk', kind: 'image', base: 0, magic: ascii(0, 'KDMV\x01\0', 'KDMV\x02\0', 'KDMV\x03\0') },
  vhdx: { type: 'vhdx', kind: 'image', base: 0, magic: ascii(0, 'vhdxfile') },
  vdi: { type: 'vdi', kind: 'image', base: 0, magic: raw(64, 0x7f, 0x10, 0xda, 0xbe) },
  overlay: { type: 'farbus-overlay', kind: 'image', base: 0, magic: ascii(0, 'FARBUSOV') },
} satisfies Record<string, Signature>;

const { qcow2, vmdk, vhdx, vdi, overlay, bitlocker, luks1, luks2, jfs, reiserfs, btrfs, hfs, hfsplus, ...others } =
  signatures;

/**
 * The probes, the most credible content first (contents.ts): content that contains other content,
 * then by the offset of the superblock. HFS comes after ISO 9660, because hybrid discs have both.
 */
export const contentProbes: readonly ContentProbe[] = [
  ...[qcow2, vmdk, vhdx, vdi, overlay].map(signatureProbe),
  linuxRaid,
  lvm,
  ...[luks1, luks2, bitlocker].map(signatureProbe),
  vfat,
  exfat,
  ntfs,
  swap,
  signatureProbe(others.xfs),
  ext,
  nilfs2,
  ...[others.f2fs, others.squashfs, others.erofs, others.apfs, others.bcachefs, jfs].map(signatureProbe),
  udf,
  iso9660,
  ...[hfsplus, hfs, reiserfs, btrfs].map(signatureProbe),
  ufs,
  zfsMember,
];

/** Probes for content whose beginning is lost; used only if nothing else was found. */
export const lastProbes: readonly ContentProbe[] = [luks2Second, nilfs2Second];
