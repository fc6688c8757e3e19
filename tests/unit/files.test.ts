/** Files that are replaced as a whole, and files that killed processes leave. */
import { spawnSync } from 'node:child_process';
import { existsSync, lchownSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'; // prettier-ignore
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openForWriting, replaceFile } from '../../src/base/files.node.js';
import { byMkdtemp, makeOwnedFolder, ownedName, removeOrphans } from '../../src/base/owned.node.js';
import { tempFolder } from '../support/temp.js';

const root = process.getuid?.() === 0;
const yesterday = Date.now() / 1000 - 25 * 3600;

/** A temporary name made by a process that has ended since. */
function nameOfDead(prefix: string): string {
  const module = fileURLToPath(new URL('../../dist/base/owned.node.js', import.meta.url));
  const script = `import(${JSON.stringify(module)}).then(({ ownedName }) => console.log(ownedName(${JSON.stringify(prefix)})))`;
  return spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' }).stdout.trim();
}

describe('A file that is replaced', () => {
  it('is new, accessible to its owner only, and replaces a link instead of following it', async () => {
    const folder = tempFolder();
    const path = join(folder, 'file');
    writeFileSync(join(folder, 'precious'), 'precious');
    symlinkSync('precious', path);
    await replaceFile(path, ['one ', Buffer.from('two')], { durable: true });
    expect(readFileSync(path, 'utf8')).toBe('one two');
    expect(readFileSync(join(folder, 'precious'), 'utf8')).toBe('precious');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).sort()).toEqual(['file', 'precious']);
  });

  it('stays unchanged if the new one cannot be written', async () => {
    const folder = tempFolder();
    const path = join(folder, 'file');
    writeFileSync(path, 'old');
    const parts = (function* () {
      yield 'new';
      throw new Error('no more');
    })();
    await expect(replaceFile(path, parts)).rejects.toThrow('no more');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('removes the leftovers of earlier processes beside it, and no other file', async () => {
    const folder = tempFolder();
    const path = join(folder, 'file');
    const [dead, alive] = [nameOfDead('.file.farbus-'), ownedName('.file.farbus-')];
    const others = [alive, '.file.farbus-backup', '.file.farbus-1-2-3', `.other.farbus-${dead.split('farbus-')[1]!}`];
    for (const name of [dead, ...others]) writeFileSync(join(folder, name), '');
    for (const name of others.slice(1, 3)) utimesSync(join(folder, name), yesterday, yesterday);
    await replaceFile(path, ['x']);
    expect(readdirSync(folder).sort()).toEqual(['file', ...others].sort());
  });

  it.skipIf(!root)('is not written through a link of another user', async () => {
    const folder = tempFolder();
    for (const [link, to] of [['theirs', 'precious'], ['ours', 'fine']] as const) symlinkSync(to, join(folder, link)); // prettier-ignore
    writeFileSync(join(folder, 'precious'), 'precious');
    lchownSync(join(folder, 'theirs'), 12345, 12345);
    await expect(openForWriting(join(folder, 'theirs'))).rejects.toThrow('is a link that another user has made');
    await (await openForWriting(join(folder, 'ours'))).close();
    expect(readFileSync(join(folder, 'precious'), 'utf8')).toBe('precious');
    expect(existsSync(join(folder, 'fine'))).toBe(true);
  });
});

describe('Leftovers of killed processes', () => {
  it('are removed at the next start, unless their owner lives', async () => {
    const folder = tempFolder();
    const mine = await makeOwnedFolder(folder, 'x-');
    const dead = join(folder, nameOfDead('x-'));
    mkdirSync(dead);
    writeFileSync(join(dead, 'file'), '');
    // A process with our id that started at another time.
    const reused = join(folder, ownedName('x-').replace(/-\d+-/, '-1-'));
    mkdirSync(reused);
    const next = await makeOwnedFolder(folder, 'x-');
    expect(readdirSync(folder).map((name) => join(folder, name)).sort()).toEqual([mine, next].sort()); // prettier-ignore
    expect(statSync(mine).mode & 0o777).toBe(0o700);
  });

  it('of another place, or of version 0.1.0, are removed after a day without an answer', async () => {
    const folder = tempFolder();
    const foreign = (n: number): string => ownedName('x-').replace(/-[0-9a-f]{6}-(?=[0-9a-f]{8}$)/, `-00000${n}-`);
    const [old, young, used, first, lasting] = [foreign(1), foreign(2), foreign(3), 'x-Ab12Cd', 'x-backups'];
    for (const name of [old, young, used, first, lasting]) mkdirSync(join(folder, name!));
    const server = createServer().listen(join(folder, used, 's.sock'));
    await new Promise((resolve) => server.once('listening', resolve));
    utimesSync(join(folder, used, 's.sock'), yesterday, yesterday);
    for (const name of [old, used, first, lasting]) utimesSync(join(folder, name!), yesterday, yesterday);
    await removeOrphans(folder, 'x-', { before: byMkdtemp });
    expect(readdirSync(folder).sort()).toEqual([young, used, lasting].sort());
    server.close();
  });
});
