/**
 * Sessions that die: ssh, sshd, the shell there, its dd or the SFTP server, killed or stopped at
 * random moments under a verified write load. Every acknowledged byte is in its place afterwards,
 * and no write of a dead session lands later.
 */
import { readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import { openSshDd } from '../../src/protocol/dd/open.node.js';
import { openSshSftp } from '../../src/protocol/sftp/open.node.js';
import type { InitiatorOptions } from '../../src/protocol/remote/initiator-device.js';
import { Random } from '../../src/conformance/random.js';
import { expectKind, expectSame, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { cannotSshd, descendantsOf, Sshd, writeScript } from '../support/sshd.js';
import { tempFolder, tempPath, tempImage } from '../support/temp.js';

const all = process.env['FARBUS_TEST_ALL'] !== undefined;
const size = 4 << 20;
const block = 64 << 10;
const workers = 8;

type Open = (uri: string, options?: InitiatorOptions) => Promise<BlockDevice>;
const ways: readonly { name: string; open: Open }[] = [
  { name: 'ssh+dd', open: openSshDd },
  { name: 'ssh+sftp', open: openSshSftp },
];

const image = (): string => tempImage(new Uint8Array(size));

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // The process has already ended.
  }
}

/** The ssh programs that this test runs. */
function clients(): number[] {
  return descendantsOf(process.pid).filter((pid) => commandOf(pid).startsWith('ssh -F'));
}

/**
 * Writes and reads back on disjoint stripes until stopped. The model holds the acknowledged
 * content.
 */
async function load(device: BlockDevice, random: Random, until: () => boolean, model: Uint8Array): Promise<number> {
  let done = 0;
  const stripe = size / workers;
  const worker = async (index: number): Promise<void> => {
    const start = index * stripe;
    while (!until()) {
      const length = 512 * (1 + random.below(random.chance(0.3) ? block / 512 : 16));
      const at = start + 512 * random.below((stripe - length) / 512);
      const bytes = random.bytes(length);
      await writeBytes(device, at, bytes);
      model.set(bytes, at);
      if (random.chance(0.1)) await device.flush();
      if (random.chance(0.3)) expectSame(await readBytes(device, at, length), bytes, `bytes from ${at}`);
      done++;
    }
  };
  await Promise.all(Array.from({ length: workers }, (_, index) => worker(index)));
  return done;
}

const before = process.env['FARBUS_SSH'];
afterAll(() => {
  if (before === undefined) delete process.env['FARBUS_SSH'];
  else process.env['FARBUS_SSH'] = before;
});

describe.skipIf(cannotSshd() !== undefined)('sessions that die', () => {
  let server: Sshd;
  beforeAll(async () => {
    server = await Sshd.start();
    process.env['FARBUS_SSH'] = server.ssh;
  });

  for (const { name, open } of ways) {
    test(`${name}: killed at random moments under load`, async () => {
      const path = image();
      const seed = all ? Date.now() : 11;
      const random = new Random(seed);
      const log: string[] = [];
      const device = await open(`${name}://test${path}`, { log: { log: (_, line) => log.push(line) } });
      const model = new Uint8Array(size);
      const end = Date.now() + (all ? 60_000 : 8_000);
      let kills = 0;
      const killer = async (): Promise<void> => {
        while (Date.now() < end) {
          await sleep(20 + random.below(600));
          const near = clients();
          const far = server.descendants();
          const choice = random.chance(0.5) ? near : far;
          const victim = choice[random.below(Math.max(1, choice.length))];
          if (victim === undefined) continue;
          // A stopped process resumes later, when its client is long gone.
          if (random.chance(0.3) && choice === far) {
            signal(victim, 'SIGSTOP');
            await sleep(random.below(50));
            for (const pid of near) signal(pid, 'SIGKILL');
            void sleep(1000 + random.below(2000)).then(() => signal(victim, 'SIGCONT'));
          } else signal(victim, 'SIGKILL');
          kills++;
        }
      };
      const [writes] = await Promise.all([load(device, random, () => Date.now() > end, model), killer()]).catch(
        (error) => {
          throw new Error(`seed ${seed}: ${String(error)}\n${log.slice(-20).join('\n')}`);
        },
      );
      expect(kills).toBeGreaterThan(5);
      expect(writes).toBeGreaterThan(20);
      await device.flush();
      expectSame(await readBytes(device, 0, size), model, 'by the device');
      await device.close();
      expectSame(new Uint8Array(readFileSync(path)), model, 'in the file');
      await sleep(3500);
      expectSame(new Uint8Array(readFileSync(path)), model, 'in the file, later');
    }, 150_000);

    test(`${name}: processes of a cut session are ended before its write is repeated`, async () => {
      const path = image();
      // An empty disk has no content by which it could be recognised after the cut.
      const device = await open(`${name}://test${path}`);
      await readBytes(device, 0, 512);
      const old = server.descendants();
      // Stop the far side while the write is in its pipes; then the client ends.
      for (const pid of old) signal(pid, 'SIGSTOP');
      const first = new Random(1).bytes(block);
      const write = writeBytes(device, 0, first);
      await sleep(50);
      for (const pid of clients()) signal(pid, 'SIGKILL');
      await write;
      const workersLeft = old.filter((pid) => /^(sh -c IFS|dd |\S*sftp-server)/.test(commandOf(pid)));
      expect(workersLeft).toEqual([]);
      const second = new Random(2).bytes(block);
      await writeBytes(device, 0, second);
      for (const pid of old) signal(pid, 'SIGCONT');
      await sleep(500);
      expectSame(new Uint8Array(readFileSync(path)).subarray(0, block), second, 'the newer write');
      await device.close();
    });

    test(`${name}: a server that goes away and comes back`, async () => {
      const path = image();
      const states: string[] = [];
      const device = await open(`${name}://test${path}`, { onState: (state) => states.push(state) });
      const bytes = new Random(3).bytes(block);
      await writeBytes(device, 0, bytes);
      await server.stop();
      const read = readBytes(device, 0, block);
      await sleep(1500);
      await server.start();
      expectSame(await read, bytes, 'after the server came back');
      expect(states).toEqual(['reconnecting', 'connected']);
      await device.close();
    });

    test(`${name}: a server that stays away causes an error after the reconnect time, and works again when it is back`, async () => {
      const path = image();
      const device = await open(`${name}://test${path}`, { reconnectSeconds: 1 });
      await readBytes(device, 0, 512);
      await server.stop();
      const began = performance.now();
      await expectKind('unreachable', device.read(0, buffersOf(new Uint8Array(512))));
      expect(performance.now() - began).toBeGreaterThan(500);
      await expectKind('unreachable', device.write(0, buffersOf(new Uint8Array(512))));
      await server.start();
      for (let tries = 0; ; tries++) {
        const error: unknown = await readBytes(device, 0, 512).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        if (error === undefined) break;
        expect(error).toBeInstanceOf(BlockError);
        if (tries > 100) throw error;
        await sleep(100);
      }
      await device.close();
    });

    test(`${name}: another file of the same name, and a shorter one, are refused`, async () => {
      const path = image();
      const device = await open(`${name}://test${path}`, { reconnectSeconds: 1 });
      await readBytes(device, 0, 512);
      writeFileSync(path, new Uint8Array(size / 2));
      for (const pid of clients()) signal(pid, 'SIGKILL');
      const error: unknown = await readBytes(device, 0, 512).catch((reason: unknown) => reason);
      expect((error as Error).message).toMatch(/the device has 2097152 bytes and had 4194304/);
      await device.close();
    });
  }
});

describe.skipIf(cannotSshd() !== undefined)('what a lost session left cannot always be found', () => {
  /**
   * Loses the only session while a write is in flight that cannot have been carried out yet.
   * Returns that write.
   */
  async function lostWrite(server: Sshd, device: BlockDevice, bytes: Uint8Array): Promise<{ write: Promise<void> }> {
    await readBytes(device, 0, 512);
    const old = server.descendants();
    for (const pid of old) signal(pid, 'SIGSTOP');
    const write = writeBytes(device, 0, bytes);
    write.catch(() => undefined);
    await sleep(50);
    for (const pid of clients()) signal(pid, 'SIGKILL');
    await write.catch(() => undefined);
    for (const pid of old) signal(pid, 'SIGCONT');
    return { write };
  }

  /**
   * If its state is unknown, the write is reported, its blocks are not written again, and
   * everything else continues.
   */
  async function reported(server: Sshd, device: BlockDevice): Promise<void> {
    const bytes = new Random(1).bytes(block);
    const { write } = await lostWrite(server, device, bytes);
    await expect(write).rejects.toThrow(/the connection was lost during a write of these blocks/);
    await expectKind('io', writeBytes(device, 4096, bytes.subarray(0, 512)));
    await writeBytes(device, 2 * block, bytes);
    expectSame(await readBytes(device, 2 * block, block), bytes, 'other blocks');
    await device.flush();
    await device.close();
  }

  test('ssh+dd: neither /proc nor ps', async () => {
    const folder = tempFolder();
    for (const name of ['sh', 'dd', 'stat', 'printf', 'tail', 'tr'])
      symlinkSync(`/usr/bin/${name}`, join(folder, name));
    const server = await Sshd.start({ env: { PATH: `${folder}` } });
    process.env['FARBUS_SSH'] = server.ssh;
    await reported(server, await openSshDd(`ssh+dd://test${image()}?sessions=1`));
    await server.stop();
  });

  test.skipIf(process.getuid?.() !== 0)('ssh+sftp: no /proc', async () => {
    const program = writeScript(
      tempPath('sftp'),
      `exec unshare -m sh -c 'mount -t tmpfs none /proc; exec /usr/lib/openssh/sftp-server'`,
    );
    const server = await Sshd.start({ noSftp: true, config: [`Subsystem sftp ${program}`] });
    process.env['FARBUS_SSH'] = server.ssh;
    await reported(server, await openSshSftp(`ssh+sftp://test${image()}`));
    await server.stop();
  });

  test('ssh+dd: by ps, where there is no /proc: the write is repeated', async () => {
    const folder = tempFolder();
    writeScript(join(folder, 'grep'), 'case "$1" in -l*) exit 2;; esac; exec /bin/grep "$@"');
    const server = await Sshd.start({ env: { PATH: `${folder}:/usr/bin:/bin` } });
    process.env['FARBUS_SSH'] = server.ssh;
    const path = image();
    const device = await openSshDd(`ssh+dd://test${path}?sessions=1`);
    const bytes = new Random(1).bytes(block);
    await (
      await lostWrite(server, device, bytes)
    ).write;
    const newer = new Random(2).bytes(block);
    await writeBytes(device, 0, newer);
    await sleep(500);
    expectSame(new Uint8Array(readFileSync(path)).subarray(0, block), newer, 'the newer write');
    await device.close();
    await server.stop();
  });

  test('ssh+dd: a dd that is killed alone, as by a server without memory, is no error of the disk', async () => {
    const folder = tempFolder();
    const [kill, killed] = [join(folder, 'kill'), join(folder, 'killed')];
    writeScript(join(folder, 'dd'), `mv ${kill} ${killed} 2>/dev/null && kill -9 $$; exec /bin/dd "$@"`);
    const server = await Sshd.start({ env: { PATH: `${folder}:/usr/bin:/bin` } });
    process.env['FARBUS_SSH'] = server.ssh;
    const path = image();
    const device = await openSshDd(`ssh+dd://test${path}`);
    for (const work of [
      () => writeBytes(device, 4096, new Uint8Array(4096).fill(7)),
      () => device.flush(),
      async () => expect(await readBytes(device, 4096, 4096)).toEqual(new Uint8Array(4096).fill(7)),
    ]) {
      writeFileSync(kill, '');
      await work();
      rmSync(killed);
    }
    await device.close();
    await server.stop();
  });
});
