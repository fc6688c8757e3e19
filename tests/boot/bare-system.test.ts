/**
 * `npm ci && npm run demo` as an ordinary user with an empty home, on a Debian that debootstrap has
 * just made (minbase): Node and the base system, and nothing else. Programs of the base system that
 * other systems lack are taken away, so that the demo has to do without them.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, lstatSync, mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';

const skipped = process.getuid?.() !== 0 || missing('debootstrap') || missing('unshare');
const project = fileURLToPath(new URL('../..', import.meta.url));
const mirror = process.env['FARBUS_DEBIAN_MIRROR'] ?? 'https://deb.debian.org/debian';
const certificates = process.env['NODE_EXTRA_CA_CERTS'];
/** Node's built-in list knows Debian's archive and npm's registry; a proxy may have its own. */
const trust = certificates === undefined ? [] : ['NODE_EXTRA_CA_CERTS=/etc/extra-certificates'];
const takenAway = [
  ...['sbin/mke2fs', 'sbin/mkfs.ext4', 'sbin/e2fsck', 'sbin/debugfs'],
  ...['usr/bin/dpkg-deb', 'bin/tar', 'usr/bin/gpgv', 'usr/bin/apt-get'],
];
/** Only the new mount and process namespaces see the mounts, which end with them. */
const enter = `mount -t proc proc "$0/proc"; mount --bind /dev "$0/dev"
exec chroot --userspec=1000:1000 "$0" /usr/bin/env -i HOME=/home/user LC_ALL=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin ${trust.join(' ')} "$@"`;

let root: string;

function inRoot(...command: string[]): { status: number | null; stdout: string; stderr: string } {
  const args = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', 'sh', '-c', enter];
  return spawnSync('unshare', [...args, root, ...command], { encoding: 'utf8', timeout: 1_500_000 });
}

describe.skipIf(skipped)('a bare Debian, as an ordinary user with an empty home', () => {
  beforeAll(() => {
    root = join(tempFolder(), 'root');
    execFileSync('debootstrap', ['--variant=minbase', 'bookworm', root, mirror], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    for (const name of takenAway) rmSync(join(root, name), { force: true });
    for (const name of ['resolv.conf', 'hosts']) copyFileSync(join('/etc', name), join(root, 'etc', name));
    if (certificates !== undefined) copyFileSync(certificates, join(root, 'etc/extra-certificates'));
    const local = join(root, 'usr/local');
    copyFileSync(process.execPath, join(local, 'bin/node'));
    chmodSync(join(local, 'bin/node'), 0o755);
    const npm = realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());
    mkdirSync(join(local, 'lib/node_modules'), { recursive: true });
    cpSync(dirname(dirname(npm)), join(local, 'lib/node_modules/npm'), { recursive: true });
    for (const name of ['npm', 'npx']) {
      symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(local, 'bin', name));
    }
    const clone = join(root, 'home/user/farbus');
    const left = new Set(['.git', 'node_modules', 'dist'].map((name) => join(project, name)));
    cpSync(project, clone, { recursive: true, filter: (path) => !left.has(path) && !lstatSync(path).isSocket() });
    execFileSync('chown', ['-R', '1000:1000', join(root, 'home/user')]);
  }, 900_000);

  it('npm ci and npm run demo work, with the programs of Debian that are fetched', () => {
    const { status, stdout, stderr } = inRoot('sh', '-c', 'cd ~/farbus && npm ci >&2 && npm run demo');
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(/by Debian's mkfs\.ext4, debugfs, e2fsck, mkfs\.vfat, fsck\.vfat, mcopy, from the cache/);
    expect(stdout).toContain('✓ yes, byte for byte (e2fsck and debugfs)');
    expect(stdout).toContain('✓ yes, byte for byte (fsck.vfat and mcopy)');
  }, 1_800_000);
});
