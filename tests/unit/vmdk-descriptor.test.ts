/** The text descriptor of a VMDK, in the forms that QEMU itself writes. */
import { expect, it } from 'vitest';
import { parseVmdkDescriptor } from '../../src/protocol/qemu/vmdk-descriptor.js';

const text = (id: string): string =>
  `# Disk DescriptorFile\nversion=1\nCID=${id}\nparentCID=ffffffff\n\nRW 2048 SPARSE "a-s001.vmdk"\n\nddb.x = "4"\n`;

/** Writes a text with its end over an older one, as QEMU does when a guest has written. */
const over = (old: string, next: string): string => `${next}\0${old.slice(next.length + 1)}`;

it.each(['1234567', '123456', '1', '12345678'])('a content ID of %s over one of eight digits is read', (id) => {
  const old = text('abcdef12');
  const found = parseVmdkDescriptor(over(old, text(id)).padEnd(4096, '\0'), 'a.vmdk');
  expect(found).toEqual({ extents: [{ name: 'a-s001.vmdk', header: true }], parent: undefined });
});

it('other control characters, and lines behind a NUL, are refused', () => {
  expect(() => parseVmdkDescriptor(`${text('1')}\0RW 8 ZERO`, 'a.vmdk')).toThrow(/not understood/);
  expect(() => parseVmdkDescriptor(`${text('1')}\x01\n`, 'a.vmdk')).toThrow(/not understood/);
});
