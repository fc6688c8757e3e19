/** The removal of a disk in the browser that is cut short, on a fake of the OPFS. */
import { beforeEach, expect, test, vi } from 'vitest';
import { createOpfsDisk, opfsDisks } from '../../src/storage/opfs/disk.js';
import { removeStore } from '../../src/storage/opfs/files.js';

class FakeFolder {
  readonly entries = new Map<string, FakeFolder | 'file'>();
  /** The removal of this entry fails. */
  stuck = '';

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<FakeFolder> {
    const found = this.entries.get(name);
    if (found instanceof FakeFolder) return found;
    if (!create) throw new DOMException('there is none', 'NotFoundError');
    const made = new FakeFolder();
    this.entries.set(name, made);
    return made;
  }

  async getFileHandle(name: string): Promise<object> {
    this.entries.set(name, 'file');
    return {};
  }

  async removeEntry(name: string): Promise<void> {
    const found = this.entries.get(name);
    if (found instanceof FakeFolder) for (const inner of [...found.entries.keys()]) await found.removeEntry(inner);
    if (name === this.stuck) throw new Error('the browser was ended');
    this.entries.delete(name);
  }

  async *keys(): AsyncGenerator<string> {
    yield* this.entries.keys();
  }
}

let root: FakeFolder;

beforeEach(() => {
  root = new FakeFolder();
  vi.stubGlobal('navigator', {
    storage: { getDirectory: async () => root },
    locks: { request: async (_name: string, _options: object, hold: (lock: object) => unknown) => hold({}) },
  });
});

async function folderOf(disk: string): Promise<FakeFolder> {
  return (await root.getDirectoryHandle('farbus')).getDirectoryHandle(`disk-${disk}`);
}

test('a disk whose removal is cut short is gone, and a new one of its name is empty', async () => {
  await createOpfsDisk('mine', 1 << 30);
  const folder = await folderOf('mine');
  for (const part of ['3', '0', '1']) await folder.getFileHandle(part);
  folder.stuck = '3';
  await expect(removeStore('disk', 'mine')).rejects.toThrow('the browser was ended');
  expect(await opfsDisks()).toEqual([]);
  expect([...folder.entries.keys()]).toContain('3');
  folder.stuck = '';
  await createOpfsDisk('mine', 1 << 20);
  expect(await opfsDisks()).toEqual([{ name: 'mine', size: 1 << 20 }]);
  expect([...folder.entries.keys()]).toEqual([expect.stringMatching(/^disk-1048576-/)]);
});
