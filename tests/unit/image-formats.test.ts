/** Disk image formats by their content and names. */
import { describe, expect, it } from 'vitest';
import { formatOf, formatsOfName } from '../../src/protocol/qemu/formats.js';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

describe('the content of an image', () => {
  it.each([
    ['qcow', 'QFI\xfb\0\0\0\x01'],
    ['qcow2', 'QFI\xfb\0\0\0\x03'],
    ['qed', 'QED\0'],
    ['vmdk', 'KDMV'],
    ['vmdk', 'COWD'],
    ['vmdk', '# Disk DescriptorFile\nversion=1\n'],
    ['vmdk', '\n# A comment\r\n# Disk DescriptorFile\n'],
    ['vmdk', '# A comment\nversion=1\n'],
    ['vmdk', '# A comment\r\n\r\nversion=1\r\n'],
    ['vdi', `${'\0'.repeat(64)}\x7f\x10\xda\xbe`],
    ['vhdx', 'vhdxfile'],
    ['vpc', 'conectix'],
    ['parallels', 'WithoutFreeSpace'],
    ['parallels', 'WithouFreSpacExt'],
  ])('%s is recognised, however short the file is', (format, text) => {
    expect(formatOf(bytes(text))).toBe(format);
    expect(formatOf(bytes(text + '\0'.repeat(1024)))).toBe(format);
  });

  it.each([
    ['nothing', ''],
    ['zeroes', '\0'.repeat(1024)],
    ['a part of a signature', 'QFI'],
    ['another text', `# Disk Descriptor${' '.repeat(1024)}`],
    ['very many blank lines', '\n'.repeat(65_536)],
    ['very many comments, which takes no longer than a few', '#\r\n'.repeat(10_000)],
  ])('is not %s', (_, text) => expect(formatOf(bytes(text))).toBeUndefined());
});

describe('the name of an image', () => {
  it.each([
    ['vm.qcow2', ['qcow2']],
    ['/srv/VM.QCOW2', ['qcow2']],
    ['old.qcow', ['qcow', 'qcow2']],
    ['a.vhd', ['vpc']],
    ['disk.img', []],
    ['disk', []],
    ['/srv/a.qcow2/disk', []],
    ['.qcow2', []],
    ['/srv/.vmdk', []],
    ['a.constructor', []],
  ])('%s claims %j', (path, formats) => expect(formatsOfName(path)).toEqual(formats));
});
