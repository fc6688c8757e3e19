/** The text of a source is parsed once, to a value. */
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { absoluteText, imagePath, localPath, parseSource, plainPath } from '../../src/app/source-text.js';

describe('the place of a source', () => {
  it.each([
    ['disk.img', 'disk.img', 'disk.img', undefined],
    ['a,b.img,partition=1', 'a,b.img', 'a,b.img', undefined],
    ['raw:vm.qcow2', 'vm.qcow2', 'vm.qcow2', undefined],
    ['vm.qcow2,rate=1M', 'vm.qcow2', undefined, { path: 'vm.qcow2', format: 'qcow2' }],
    ['vmdk:/dev/vg/vm', '/dev/vg/vm', undefined, { path: '/dev/vg/vm', format: 'vmdk' }],
    ['nbd://host/a.qcow2', undefined, undefined, undefined],
    ['memory:1M', undefined, undefined, undefined],
    [',cdrom', undefined, undefined, undefined],
  ])('%s', (text, local, plain, image) => {
    const source = parseSource(text);
    expect([localPath(source), plainPath(source), imagePath(source)]).toEqual([local, plain, image]);
  });

  it('of an unknown kind is refused, with a hint about the last word', () => {
    expect(() => parseSource('gopher://x/y')).toThrow(/no such kind of source: gopher; see farbus help sources$/);
    expect(() => parseSource('gopher://x/y,overly=z')).toThrow(/did you mean overlay\?$/);
  });
});

it('absolute paths replace all paths of this computer, and only these', () => {
  const here = (path: string): string => resolve(path);
  expect(absoluteText('qcow2:a.qcow2,may-open=b,cache=c,rate=1M')).toBe(
    `qcow2:${here('a.qcow2')},may-open=${here('b')},cache=${here('c')},rate=1M`,
  );
  expect(absoluteText('nbd://host/x,overlay=o,readahead')).toBe(`nbd://host/x,overlay=${here('o')},readahead`);
  expect(absoluteText(',cdrom')).toBe(',cdrom');
  expect(absoluteText('ssh://h/a&config=b?sudo&config=my%20config&identity=/k,rate=1M')).toBe(
    `ssh://h/a&config=b?sudo&config=${here('my%20config')}&identity=/k,rate=1M`,
  );
  expect(absoluteText('nbds://h/x?tls-certificates=pki')).toBe(`nbds://h/x?tls-certificates=${here('pki')}`);
  for (const same of ['ssh://h/x?config=~/c&identity=%zz', 'ssh://h/x?config=none', 'nbd+unix:///?socket=%00a']) {
    expect(absoluteText(same)).toBe(same);
  }
});
