/**
 * The client computer with its unmodified operating system. Booted once; each test starts from the
 * snapshot, on a far disk from `farbus serve` in another process ([SYS] fig. 4, 5, 6, 8, 11; R1, R5
 * to R8).
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Steps, type Step } from '../../src/base/steps.js';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { chooseGuest, createComputer, startGuest, type Guest } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import type { ClientComputer } from '../../src/computer/client.js';
import { SnapshotError } from '../../src/machine/snapshot.js';
import { readSnapshot } from '../../src/machine/snapshot-file.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { Rshd, cannotRshd } from '../support/rshd.js';
import { ServeProcess } from '../support/server.js';
import { Sshd, cannotSshd } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';
import { runner } from '../support/guest-commands.js';

const memory = 160 << 20;
const diskSize = 32 << 20;
const log = { log: () => undefined };
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

let guest: Guest;
let folder: string;
let image: string;
let snapshot: string;
let server: ServeProcess;
/** Things that a test has started and that must be ended after it. */
const open: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = tempFolder();
  image = join(folder, 'disk.img');
  snapshot = join(folder, 'guest.snapshot');
  server = new ServeProcess(join(folder, 'sock'), [image]);
  writeFileSync(image, '');
  truncateSync(image, diskSize);
  guest = await chooseGuest({ log });
  await server.start();
  const { computer, started } = await start();
  expect(started.from).toBe('boot');
  expect((await computer.console.run('ls /dev/nvme0n1')).status).toBe(0);
  await closeAll();
}, 300_000);

afterEach(closeAll);

afterAll(async () => {
  await closeAll();
  await server?.stop();
});

describe('a guest on a far disk', () => {
  it('mounts it, reads the host’s files, and the host reads the guest’s files', async () => {
    const { content, hash } = makeFileSystem();
    const { computer } = await start();
    const run = runner(computer);
    await run('mkdir -p /mnt/d && mount -t ext4 /dev/nvme0n1 /mnt/d');
    expect(await run('sha256sum /mnt/d/content')).toContain(hash);
    const written = await run('dd if=/dev/urandom of=/mnt/d/new bs=64k count=20 2>/dev/null; sha256sum /mnt/d/new');
    await run('umount /mnt/d');
    execFileSync('e2fsck', ['-f', '-n', image], { env: admin, stdio: 'pipe' });
    const copy = join(folder, 'copy');
    execFileSync('debugfs', ['-R', `dump new ${copy}`, image], { env: admin, stdio: 'pipe' });
    expect(written).toContain(sha256(readFileSync(copy)));
    expect(content.length).toBe(1 << 20);
  });

  it('passes the steps of [SYS] fig. 6, 8 and 11 for each command', async () => {
    const steps: Step[] = [];
    const { computer } = await start({ onStep: (step) => steps.push(step) });
    await runner(computer)('dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 skip=100 iflag=direct');
    const boot = steps.filter(({ traceId, wire }) => traceId === 0 && wire === undefined).map(({ id }) => id);
    expect(boot).toEqual(['321', '322', '323', '324', '325', '326']);
    const read = steps.find(({ id, detail }) => id === '261' && detail.startsWith('read (sector 800, 8 '))!;
    const own = steps.filter(({ traceId }) => traceId === read.traceId);
    // Step 262 is reported by the virtual I/O client, and again by the initiator, which reports the
    // request's cookie.
    expect(own.map(({ id }) => id)).toEqual(['213', '214', '303', '261', '262', '262', '263', 'end']);
    expect(own.every(({ time }, i) => i === 0 || time >= own[i - 1]!.time)).toBe(true);
    const handler = steps.find(({ id }) => id === '326')!.detail;
    expect(handler).toMatch(/0xc[0-9a-f]{7}/); // a kernel address: the operating system's own
  });

  it('passes the steps of fig. 9 and 10 on the server, under the client’s NBD cookies', async () => {
    const traced = join(folder, 'traced.img');
    writeFileSync(traced, '');
    truncateSync(traced, diskSize);
    const trace = join(folder, 'serve.trace');
    const other = new ServeProcess(join(folder, 'traced'), [traced, `--trace=${trace}`]);
    await other.start();
    open.push(() => other.stop());
    const steps: Step[] = [];
    const { computer } = await start({
      drive: other.uri('traced.img'),
      anew: true,
      onStep: (step) => steps.push(step),
    });
    await runner(computer)(
      'dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 skip=100 iflag=direct; ' +
        'dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 seek=200 oflag=direct',
    );
    await closeAll();
    const onServer = (cookie: Step['wire']): string[] =>
      [...readFileSync(trace, 'utf8').matchAll(/^#(\d+) +(\w+)/gm)]
        .filter(([, traceId]) => traceId === String(cookie))
        .map(([, , id]) => id!);
    const tell = (what: string): Step =>
      steps.find(({ traceId, wire, detail }) => traceId !== 0 && wire !== undefined && detail.includes(what))!;
    const read = tell('read sectors 800..807');
    expect(read.id).toBe('262');
    expect(steps.find(({ traceId, id }) => traceId === read.traceId && id === '261')!.detail).toBe(
      'read (sector 800, 8 sectors)',
    );
    expect(onServer(read.wire)).toEqual(['280', '281', '288', '282', '283', '284']);
    const write = tell('write sectors 1600..1607');
    expect(write.id).toBe('264');
    expect(onServer(write.wire)).toEqual(['280', '281', '288', '285', '286', '287']);
  });

  it('needs at most two register writes and no read per command, and fewer interrupts than commands at depth', async () => {
    const { computer } = await start();
    const before = computer.counts;
    const one = (i: number) =>
      `dd if=/dev/nvme0n1 of=/dev/null bs=4k skip=${i * 500} count=200 iflag=direct 2>/dev/null &`;
    await runner(computer)(`${[0, 1, 2, 3, 4, 5].map(one).join(' ')} wait`);
    const after = computer.counts;
    const commands = after.commands - before.commands;
    expect(commands).toBeGreaterThanOrEqual(1200);
    expect((after.traps.writes - before.traps.writes) / commands).toBeLessThanOrEqual(2);
    expect(after.traps.reads - before.traps.reads).toBe(0);
    expect((after.interrupts - before.interrupts) / commands).toBeLessThan(1);
  });

  it('survives a controller reset by its driver', async () => {
    const { computer } = await start();
    const run = runner(computer);
    await run('echo 1 > /sys/class/nvme/nvme0/reset_controller');
    await run('dd if=/dev/nvme0n1 of=/dev/null bs=64k count=4 iflag=direct');
  });

  it('writes to an overlay and leaves the far disk unchanged', async () => {
    makeFileSystem();
    const before = sha256(readFileSync(image));
    const overlay = join(folder, 'overlay.img');
    for (const boot of [1, 2]) {
      const { computer } = await start({ drive: `${server.uri('disk.img')},overlay=${overlay}`, anew: true });
      const run = runner(computer);
      await run('mkdir -p /mnt/d && mount -t ext4 /dev/nvme0n1 /mnt/d');
      if (boot === 1) await run('echo overlaid > /mnt/d/mine');
      else expect(await run('cat /mnt/d/mine')).toBe('overlaid\n');
      await run('umount /mnt/d');
      await closeAll();
    }
    expect(sha256(readFileSync(image))).toBe(before);
  });
});

describe('a server without any Farbus software ([SYS] fig. 13, R3, R4)', () => {
  const useDisk = async (device: BlockDevice) => {
    const { hash } = makeFileSystem();
    const { computer } = await start({ device, anew: true });
    const run = runner(computer);
    await run('mkdir -p /mnt/d && mount -t ext4 /dev/nvme0n1 /mnt/d');
    expect(await run('sha256sum /mnt/d/content')).toContain(hash);
    const written = await run('dd if=/dev/urandom of=/mnt/d/new bs=64k count=4 2>/dev/null; sha256sum /mnt/d/new');
    await run('umount /mnt/d');
    await closeAll();
    execFileSync('e2fsck', ['-f', '-n', image], { env: admin, stdio: 'pipe' });
    const copy = join(folder, 'copy');
    execFileSync('debugfs', ['-R', `dump new ${copy}`, image], { env: admin, stdio: 'pipe' });
    expect(written).toContain(sha256(readFileSync(copy)));
  };

  describe.skipIf(cannotSshd() !== undefined)('over ssh', () => {
    it.each(['ssh+dd', 'ssh+sftp'])('a guest mounts, reads and writes a file system over %s', async (scheme) => {
      const sshd = await Sshd.start();
      vi.stubEnv('FARBUS_SSH', sshd.ssh);
      try {
        await useDisk(await openSource(parseSource(`${scheme}://test${image}`), { log }));
      } finally {
        await closeAll();
        vi.unstubAllEnvs();
        await sshd.stop();
      }
    });
  });

  it.skipIf(cannotRshd() !== undefined)('a guest mounts, reads and writes a file system over rsh', async () => {
    const rshd = await Rshd.start();
    try {
      await useDisk(await openSource(parseSource(`rsh://127.0.0.1:${rshd.port}${image}`), { log }));
    } finally {
      await closeAll();
      await rshd.stop();
    }
  });
});

describe('faults between guest and server', () => {
  it('a server that stops for a while causes a pause and no error', async () => {
    const { computer } = await start();
    const load = underLoad(computer);
    await sleep(1000);
    server.signal('SIGSTOP');
    await sleep(process.env['FARBUS_TEST_ALL'] ? 20_000 : 4_000);
    server.signal('SIGCONT');
    await load;
  });

  it('a server that is killed and started again causes a pause, and no acknowledged write is lost', async () => {
    const { computer } = await start();
    const load = underLoad(computer);
    for (let i = 0; i < 3; i++) {
      await sleep(700);
      await server.stop('SIGKILL');
      await sleep(300);
      await server.start();
    }
    await load;
  });

  it('a flushed write survives kill -9 of the server', async () => {
    const { computer } = await start();
    const run = runner(computer);
    const output = await run(
      'dd if=/dev/urandom of=/tmp/w bs=4k count=64 2>/dev/null; sha256sum /tmp/w; ' +
        'dd if=/tmp/w of=/dev/nvme0n1 bs=4k seek=1024 oflag=direct conv=fsync 2>/dev/null',
    );
    await server.stop('SIGKILL');
    const there = readFileSync(image).subarray(1024 * 4096, (1024 + 64) * 4096);
    expect(output).toContain(sha256(there));
    await server.start();
    expect(await run('dd if=/dev/nvme0n1 bs=4k skip=1024 count=64 iflag=direct 2>/dev/null | sha256sum')).toContain(
      sha256(there),
    );
  });

  it('a server that stays away causes an I/O error after the reconnect time, and works again when it returns', async () => {
    const { computer } = await start({ reconnectSeconds: 1 });
    await server.stop();
    const { status, output } = await computer.console.run('dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct');
    expect(status).not.toBe(0);
    expect(output).toContain('Input/output error');
    await server.start();
    await expect
      .poll(
        async () => (await computer.console.run('dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct')).status,
        {
          timeout: 20_000,
        },
      )
      .toBe(0);
  });

  it('the guest notices by itself that its disk has grown when the server is back', async () => {
    const path = join(tempFolder(), 'disk.img');
    writeFileSync(path, '');
    truncateSync(path, diskSize);
    const other = new ServeProcess(join(folder, 'grown'), [path]);
    await other.start();
    open.push(() => other.stop());
    const { computer } = await start({ drive: other.uri('disk.img'), anew: true });
    const run = runner(computer);
    expect(await run('cat /sys/block/nvme0n1/size')).toContain(String(diskSize / 512));
    await other.stop('SIGKILL');
    truncateSync(path, 2 * diskSize);
    await other.start();
    await run('dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null');
    const size = () => run('cat /sys/block/nvme0n1/size');
    await expect.poll(size, { timeout: 20_000 }).toContain(String((2 * diskSize) / 512));
    await run(
      `dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 seek=${(2 * diskSize) / 4096 - 1} oflag=direct 2>/dev/null`,
    );
  });

  it('the guest is told that the disk is full', async () => {
    const disk = await openPath(image, {});
    const full = new FaultFilter(disk, [
      { on: ['write'], action: 'no-space', range: { offset: 1 << 20, length: 8 << 20 } },
    ]);
    const { computer } = await start({ device: full, anew: true });
    const { output, status } = await computer.console.run(
      'dd if=/dev/zero of=/dev/nvme0n1 bs=4k seek=1000 count=1 oflag=direct',
    );
    expect(status).not.toBe(0);
    expect(output).toContain('No space left on device');
  });
});

describe('snapshots', () => {
  it.each([
    ['of another size', diskSize / 2],
    ['of the same size', diskSize],
  ])('are refused on another disk %s and on another kernel', async (_, size) => {
    const other = join(folder, `other-${size}.img`);
    writeFileSync(other, '');
    truncateSync(other, size);
    const disk = await openPath(other, {});
    open.push(() => disk.close());
    const computer = await createComputer([disk], memory, { log });
    open.push(() => computer.stop());
    const saved = await readSnapshot(snapshot);
    await expect(computer.restore(saved, saved.key)).rejects.toThrow(SnapshotError);
    await expect(computer.restore(saved, 'another')).rejects.toThrow(/another kernel/);
  });
});

interface StartOptions {
  readonly drive?: string;
  readonly device?: BlockDevice;
  readonly reconnectSeconds?: number;
  readonly onStep?: (step: Step) => void;
  /** True if the drive is not the one of the snapshot, but is accepted as such. */
  readonly anew?: boolean;
}

async function start(options: StartOptions = {}) {
  const { reconnectSeconds = 60, drive = server.uri('disk.img') } = options;
  const steps = new Steps();
  if (options.onStep) steps.add({ step: options.onStep });
  const device = options.device ?? (await openSource(parseSource(drive), { reconnectSeconds, log, steps }));
  open.push(() => device.close());
  const computer = await createComputer([{ device, assumeSame: options.anew }], memory, { log, steps });
  open.push(() => computer.stop());
  const started = await startGuest(computer, guest, snapshot, memory);
  return { computer, started };
}

async function closeAll(): Promise<void> {
  for (const close of open.splice(0).reverse()) await close();
}

/**
 * Writes, reads back and compares in the guest for several seconds of guest time. It must end
 * without an error.
 */
async function underLoad(computer: ClientComputer): Promise<void> {
  const output = await runner(computer)(
    'dd if=/dev/urandom of=/tmp/l bs=64k count=16 2>/dev/null; ok=0; for i in 1 2 3 4 5 6 7 8 9 10; do ' +
      'dd if=/tmp/l of=/dev/nvme0n1 bs=64k seek=$((i*16)) oflag=direct conv=fsync 2>/dev/null && sleep 0.3 && ' +
      'dd if=/dev/nvme0n1 of=/tmp/b bs=64k skip=$((i*16)) count=16 iflag=direct 2>/dev/null && ' +
      'cmp /tmp/l /tmp/b && ok=$((ok+1)); done; echo good $ok; sha256sum /tmp/l',
  );
  expect(output).toContain('good 10');
  const stored = readFileSync(image);
  for (let i = 1; i <= 10; i++) expect(output).toContain(sha256(stored.subarray(i << 20, (i + 1) << 20)));
}

/** Makes an ext4 file system with one file of random content on the image. */
function makeFileSystem(): { content: Uint8Array; hash: string } {
  const content = randomBytes(1 << 20);
  const source = join(folder, 'source');
  execFileSync('mkdir', ['-p', source]);
  writeFileSync(join(source, 'content'), content);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', source, image], { env: admin });
  return { content, hash: sha256(content) };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
