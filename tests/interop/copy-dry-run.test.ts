/**
 * `farbus copy --dry-run`: it says what the copy would do, refuses what the copy would refuse in
 * the same words, and changes nothing: no file, no journal, no file of the state folder, no time.
 * Also `farbus guest-disk --dry-run`.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { main } from '../../src/cli/main.js';
import { processIo } from '../../src/cli/ui/io.js';
import { Random } from '../../src/conformance/random.js';
import { farbusServe, freeSocket, missing } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop, mount } from '../support/root.js';
import { tempFolder } from '../support/temp.js';
import { farbusFile, startFarbus, type Finished } from './farbus.js';

const MiB = 1 << 20;
const noQemu = missing('qemu-img') || missing('qemu-nbd');

/** A folder with a source of 4 MiB, 1 MiB of it data, and a state folder. */
class Place {
  readonly folder = tempFolder();
  readonly state = join(this.folder, 'state');

  constructor() {
    mkdirSync(this.state);
    writeFileSync(this.path('from.img'), new Random(1).bytes(MiB));
    truncateSync(this.path('from.img'), 4 * MiB);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, size: number): void {
    writeFileSync(this.path(name), new Random(2).bytes(size));
  }

  copy(...args: readonly string[]): Finished {
    const { status, stdout, stderr } = spawnSync(process.execPath, [farbusFile, 'copy', ...args], {
      cwd: this.folder,
      encoding: 'utf8',
      env: { ...process.env, XDG_STATE_HOME: this.state },
      timeout: 50_000,
    });
    return { code: status, stdout, stderr };
  }

  /** Every file and folder below, with all that a change would change. */
  snapshot(): string[] {
    const names = readdirSync(this.folder, { recursive: true }) as string[];
    return ['.', ...names].sort().map((name) => {
      const stat = lstatSync(this.path(name), { bigint: true });
      const hash = stat.isFile()
        ? createHash('sha256')
            .update(readFileSync(this.path(name)))
            .digest('hex')
        : '';
      return [name, stat.ino, stat.mode, stat.size, stat.mtimeNs, stat.ctimeNs, hash].join(' ');
    });
  }

  /** Runs a dry run that must not be refused, and expects that nothing has changed. */
  dryRun(...args: readonly string[]): Finished {
    const before = this.snapshot();
    const result = this.copy(...args, '--dry-run');
    expect(result.code, result.stderr).toBe(0);
    expect(this.snapshot()).toEqual(before);
    return result;
  }

  /** Leaves the journal of a copy that was killed after 1 MiB. */
  async interrupt(from: string, to: string): Promise<void> {
    const { sourceEnd, targetEnd, writeJournal } = await import('../../src/app/copy/journal.js');
    const { openPath } = await import('../../src/storage/open.node.js');
    expect(this.copy(from, to).code).toBe(0);
    const [a, b] = [this.path(from), this.path(to)];
    const [one, other] = [await openPath(a, { readOnly: true }), await openPath(b, { readOnly: true })];
    const ends = { from: await sourceEnd(a, one), to: targetEnd(other) };
    await writeJournal(`${b}.farbus-copy`, { version: 2, ...ends, position: MiB });
    await one.close();
    await other.close();
  }
}

/** Runs the command line in this process, for the many refusals. */
async function inProcess(args: readonly string[]): Promise<Finished> {
  let [stdout, stderr] = ['', ''];
  const io = {
    ...processIo(),
    stdout: { write: (text: string | Uint8Array) => ((stdout += String(text)), true), on: () => 0, once: () => 0 },
    stderr: { write: (text: string) => (stderr += text) },
  };
  const code = await main(args, io);
  return { code, stdout, stderr };
}

describe('farbus copy --dry-run', () => {
  it('says what would be copied to a new file, and makes none', () => {
    const place = new Place();
    const { stdout, stderr } = place.dryRun('from.img', 'to.img', '--verify');
    expect(stdout.replaceAll(place.folder, 'FOLDER')).toBe(
      `from      from.img: 4.0 MiB (4194304 bytes)
to        to.img: a new file, raw bytes of 4.0 MiB (4194304 bytes)
copies    4.0 MiB (4194304 bytes), of which 1.0 MiB are data
journal   FOLDER/to.img.farbus-copy, until the copy is complete
verifies  reads both disks again and compares every byte
`,
    );
    expect(stderr).toBe('farbus: dry run: nothing was changed\n');
  });

  it('says which file would be overwritten, with its size', () => {
    const place = new Place();
    place.write('to.img', 4 * MiB);
    expect(place.dryRun('from.img', 'to.img').stdout).toContain(
      'to        to.img: a file that exists, raw bytes of 4.0 MiB (4194304 bytes), which is overwritten\n',
    );
    writeFileSync(place.path('empty.img'), '');
    expect(place.dryRun('from.img', 'empty.img').stdout).toContain('an empty file, which becomes raw bytes of 4.0 MiB');
  });

  it('prints the same as JSON', () => {
    const place = new Place();
    const { stdout, stderr } = place.dryRun('from.img', 'to.img', '--json');
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      from: 'from.img',
      to: 'to.img',
      dryRun: true,
      size: 4 * MiB,
      start: 0,
      data: MiB,
      target: { state: 'new', kind: 'file', format: 'raw' },
      journal: place.path('to.img.farbus-copy'),
      verify: false,
    });
  });

  it('says from where a copy would be resumed, and keeps the journal', async () => {
    const place = new Place();
    place.write('data.img', 4 * MiB);
    await place.interrupt('data.img', 'to.img');
    const { stdout } = place.dryRun('data.img', 'to.img', '--resume', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ start: MiB, data: 3 * MiB });
    expect(place.dryRun('data.img', 'to.img', '--resume').stdout).toContain(
      'copies    3.0 MiB (3145728 bytes) from byte 1048576 on, of which 3.0 MiB are data\n',
    );
    expect(place.dryRun('data.img', 'to.img').stderr).toContain('an unfinished copy to to.img starts again');
    expect(JSON.parse(place.copy('data.img', 'to.img', '--resume', '--json').stdout)).toMatchObject({ start: MiB });
  });

  it('leaves the files of caches and overlays, of the source and of the target', () => {
    const place = new Place();
    place.write('to.img', 4 * MiB);
    place.dryRun('from.img,overlay=from.ov', 'to.img');
    place.dryRun('from.img,cache=from.cache', 'to.img,overlay=to.ov');
    place.write('cached.img', 4 * MiB);
    expect(place.copy('cached.img,cache=from.cache', 'to.img,overlay=to.ov').code).toBe(0);
    place.dryRun('cached.img,cache=from.cache', 'to.img,overlay=to.ov');
    expect(JSON.parse(place.dryRun('to.img,overlay=to.ov', 'copy.img', '--json').stdout)).toMatchObject({
      size: 4 * MiB,
    });
    place.write('mine', 512);
    const refused = place.copy('from.img,overlay=mine', 'new.img', '--dry-run');
    expect(refused).toMatchObject({ code: 1, stderr: 'farbus: mine is not an overlay: give another path\n' });
  });

  it.skipIf(noQemu)('leaves images, new ones and those that exist', () => {
    const place = new Place();
    const { stdout } = place.dryRun('from.img', 'to.qcow2', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ target: { state: 'new', format: 'qcow2' } });
    expect(place.copy('from.img', 'to.qcow2').code).toBe(0);
    expect(place.dryRun('from.img', 'to.qcow2').stdout).toContain(
      'to        to.qcow2: a file that exists, a qcow2 image of 4.0 MiB (4194304 bytes), which is overwritten\n',
    );
    // QEMU marks an image of this format as in use when it opens it to write.
    expect(place.copy('from.img', 'parallels:to.hdd').code).toBe(0);
    place.dryRun('from.img', 'parallels:to.hdd');
    expect(place.dryRun('to.qcow2', 'to.vmdk').stdout).toContain('a new file, a vmdk image of 4.0 MiB');
  });

  it('leaves nothing in the state folder for a disk of a server', async () => {
    const place = new Place();
    place.write('served.img', 8 * MiB);
    const server = await farbusServe(freeSocket(), 'served.img', [place.path('served.img')]);
    const { stdout, stderr } = place.dryRun('from.img', server.uri);
    expect(stdout).toContain('a disk of 8.0 MiB (8388608 bytes), which is overwritten\n');
    expect(stdout).toMatch(/journal {3}\S*\/state\/farbus\/copy-[0-9a-f]+\.json,/);
    expect(stderr).toContain('is larger: its last 4194304 bytes stay');
    expect(place.copy('from.img', server.uri).code).toBe(0);
  });
});

describe('farbus copy --dry-run refuses in the words of the copy', () => {
  const place = new Place();
  for (const name of ['exact.img', 'served', 'not.qcow2', 'damaged.img']) place.write(name, 4 * MiB);
  place.write('small.img', MiB);
  writeFileSync(place.path('damaged.img.farbus-copy'), '{');
  mkdirSync(place.path('folder'));
  symlinkSync('from.img', place.path('link.img'));
  symlinkSync('/no/such', place.path('dangling.img'));
  const given = (to: string, ...more: string[]): string[] => [place.path('from.img'), place.path(to), ...more];

  it.each([
    given('from.img'),
    given('link.img'),
    given('from.img,offset=4096'),
    given('small.img'),
    given('small.img,partition=1'),
    given('served,read-only'),
    given('new,rate=1M'),
    given('new.img.gz'),
    given('new,offse=1'),
    given('folder'),
    given('new/'),
    given('nothing/new.img'),
    given('nothing/new.qcow2'),
    given('from.img/new.img'),
    given('dangling.img'),
    given('not.qcow2'),
    given('new.img', '--resume'),
    given('exact.img', '--resume'),
    given('damaged.img'),
    given('new.img', '--jobs', '0'),
    [place.path('nothing.img'), place.path('new.img')],
    [place.path('from.img'), 'memory:1M'],
    [place.path('from.img'), 'nbd://127.0.0.1:1/x', '--reconnect', '0'],
  ])('%s %s', async (...words) => {
    const before = place.snapshot();
    const dry = await inProcess(['copy', ...words, '--dry-run']);
    expect(place.snapshot()).toEqual(before);
    expect(dry).toEqual(await inProcess(['copy', ...words]));
    expect(dry.code).not.toBe(0);
    expect(dry.stderr).toMatch(/^farbus: [^\n]+\n$/);
  });

  it('a file that another farbus writes', async () => {
    const place = new Place();
    place.write('to.img', 4 * MiB);
    const server = startFarbus('serve', place.path('to.img'), '--listen', 'nbd://127.0.0.1:0');
    await server.printed(/nbd:/);
    const dry = place.copy('from.img', 'to.img', '--dry-run');
    expect(dry).toEqual(place.copy('from.img', 'to.img'));
    expect(dry.stderr).toMatch(/another program has it locked/);
    server.child.kill();
    await server.ended;
  });

  it.skipIf(cannotLoop() !== undefined)('a block device that is mounted', () => {
    const place = new Place();
    place.write('loop.img', 16 * MiB);
    expect(spawnSync('mkfs.ext4', ['-q', '-F', place.path('loop.img')]).status).toBe(0);
    const device = attachLoop(place.path('loop.img'));
    expect(place.dryRun('from.img', device).stdout).toMatch(/a block device that exists, raw bytes of 16\.0 MiB/);
    const unmount = mount(device, tempFolder());
    const dry = place.copy('from.img', device, '--dry-run');
    expect(dry).toEqual(place.copy('from.img', device));
    expect(dry.stderr).toMatch(/mounted|in use/);
    unmount();
  });
});

describe('farbus guest-disk --dry-run', () => {
  const noTools = missing('grub-mkimage') || missing('mkfs.ext4');
  it.skipIf(noTools)('says what would be made and replaced, and changes nothing', async () => {
    const place = new Place();
    vi.stubEnv('XDG_CACHE_HOME', place.path('cache'));
    onTestFinished(() => void vi.unstubAllEnvs());
    const before = place.snapshot();
    const made = await inProcess(['guest-disk', place.path('new.img'), '--dry-run', '--json']);
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({
      dryRun: true,
      size: 512 * MiB,
      architecture: 'i386',
      cached: false,
    });
    const replaced = await inProcess(['guest-disk', place.path('from.img'), '--force', '--dry-run']);
    expect(replaced.stdout).toContain('from.img: a file of 4194304 bytes, which is replaced\n');
    expect(replaced.stdout).toMatch(/content {3}made of \d+ packages, [\d.]+ MiB to fetch/);
    expect(place.snapshot()).toEqual(before);
  });

  it.each([
    ['a file that exists', ['from.img'], /exists: --force replaces it/],
    ['a folder', ['state', '--force'], /is no file/],
    ['no folder', ['no/such.img'], /there is no folder/],
    ['a size', ['new.img', '--size', '1M'], /--size/],
  ])('refuses %s in the words of the command', async (_, [name, ...more], message) => {
    const place = new Place();
    const args = ['guest-disk', place.path(name!), ...more];
    const dry = await inProcess([...args, '--dry-run']);
    expect(dry).toEqual(await inProcess(args));
    expect(dry.stderr).toMatch(message);
    expect(dry.code).not.toBe(0);
  });
});
