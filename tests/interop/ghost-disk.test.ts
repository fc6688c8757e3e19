/**
 * Writes that are held up in the disk's own process, which is killed and restarted while the
 * gateway lives. The write is repeated, or its client gets an error. It does not land on newer
 * data. The process is the server's dd, its SFTP server, nbdkit, qemu-nbd, or `farbus serve` by NBD
 * or by AoE.
 *
 * Not here: the gateway is killed (ghost-restart), sessions of ssh under load (ssh-kill), vblade
 * (aoe).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { freeUdpPort } from '../support/aoe.js';
import {
  fill,
  holder,
  withHoldingSshd,
  image,
  letterOf,
  sftpServersOf,
  signalIfThere,
  type Held,
} from '../support/held-writes.js';
import { farbusServe, freeSocket, missing, nbdkit, qemuNbd, type NbdPeer } from '../support/nbd-peers.js';
import { cannotSshd, descendantsOf } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';

const rounds = process.env['FARBUS_TEST_ALL'] ? 5 : 1;
vi.setConfig({ testTimeout: rounds * 60_000 });

/** A disk whose process can be killed while it holds a write. */
interface Mortal extends Held {
  /** Kills the process. */
  die(): Promise<void>;
  /** Starts it again, if nothing else does. */
  live(): Promise<unknown>;
}

const peers: NbdPeer[] = [];
let opened: BlockDevice | undefined;
afterEach(async () => {
  for (const peer of peers.splice(0).reverse()) await peer.kill();
  await opened?.close();
  opened = undefined;
});

async function start(peer: Promise<NbdPeer>): Promise<NbdPeer> {
  peers.push(await peer);
  return peer;
}

/** Resolves with '' or the error's message. */
const outcome = (request: Promise<unknown>): Promise<string> =>
  request.then(
    () => '',
    (error: Error) => error.message,
  );

async function survives(disk: Mortal): Promise<void> {
  const gate = await start(farbusServe(freeSocket(), 'g', [`g=${disk.source}`]));
  const device = (opened = await openNbd(gate.uri, { reconnectSeconds: 60 }));
  for (let round = 0; round < rounds; round++) {
    await device.write(0, fill('0'));
    // By this block, the gateway recognises the disk after the restart.
    await device.write(65536, fill('w'));
    await device.flush();
    disk.arm();
    const older = outcome(device.write(0, fill('A')));
    await disk.caught();
    await disk.die();
    await disk.live();
    const reported = await older;
    if (reported === '') expect(disk.letter()).toBe('A');
    await device.write(0, fill('B'));
    const lost = await outcome(device.flush());
    if (lost !== '') {
      expect(lost).toMatch(/lost|input\/output/);
      await device.write(0, fill('B'));
      await device.flush();
    }
    await disk.release();
    const first = new Uint8Array(4096);
    await device.read(0, buffersOf(first));
    expect(String.fromCharCode(first[0]!)).toBe('B');
    expect(disk.letter()).toBe('B');
    expect(gate.output).not.toMatch(/may still land/);
  }
}

/** A disk that one server process has: it is stopped with the write in its socket. */
function stopped(source: string, path: string, server: NbdPeer): Mortal {
  return {
    source,
    arm: () => server.signal('SIGSTOP'),
    caught: () => sleep(300),
    die: () => server.kill(),
    live: () => server.start(),
    release: () => sleep(300),
    letter: () => letterOf(path),
  };
}

describe.skipIf(cannotSshd() !== undefined)('a write in a process of a server by ssh that is killed', () => {
  const folder = tempFolder();
  const sshd = withHoldingSshd(folder);
  /** The process that holds the write, and the shell that started it. */
  const held = (): number => Number(readFileSync(join(folder, 'caught'), 'utf8'));
  const parentOf = (pid: number): number => Number(/\) . (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))![1]);

  it('in dd is repeated or reported', async () => {
    const path = image();
    const die = async (): Promise<void> => signalIfThere(held(), 'SIGKILL');
    await survives({ ...holder(`ssh+dd://test${path}`, path, folder), die, live: () => sleep(0) });
  });

  it('in a dd that outlives the shell of its session does not land late', async () => {
    const path = image();
    const die = async (): Promise<void> => signalIfThere(parentOf(held()), 'SIGKILL');
    await survives({ ...holder(`ssh+dd://test${path}`, path, folder), die, live: () => sleep(0) });
  });

  it('in dd does not land late after the whole server was killed', async () => {
    const path = image();
    const die = (): Promise<void> => sshd().stop();
    await survives({ ...holder(`ssh+dd://test${path}`, path, folder), die, live: () => sshd().start() });
  });

  it('in dd does not land late after sshd alone was killed, and its dd lives', async () => {
    const path = image();
    const die = async (): Promise<void> => {
      const below = new Set(descendantsOf(sshd().pid));
      const above: number[] = [];
      for (let pid = parentOf(held()); below.has(pid); pid = parentOf(pid)) above.push(pid);
      const daemons = above.filter((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('sshd'));
      expect(daemons.length).toBeGreaterThan(0);
      for (const pid of daemons) signalIfThere(pid, 'SIGKILL');
    };
    await survives({ ...holder(`ssh+dd://test${path}`, path, folder), die, live: () => sleep(0) });
  });

  it('in the SFTP server is repeated', async () => {
    const path = image();
    let servers: number[] = [];
    await survives({
      source: `ssh+sftp://test${path}`,
      arm: () => {
        servers = sftpServersOf(sshd(), path);
        for (const pid of servers) signalIfThere(pid, 'SIGSTOP');
      },
      caught: () => sleep(300),
      die: async () => {
        for (const pid of servers) signalIfThere(pid, 'SIGKILL');
      },
      live: () => sleep(0),
      release: () => sleep(300),
      letter: () => letterOf(path),
    });
  });
});

describe('a write in an NBD server that is killed', () => {
  it.skipIf(missing('nbdkit'))('is repeated: nbdkit', async () => {
    const path = image();
    const server = await start(nbdkit(freeSocket(), ['file', path]));
    await survives(stopped(server.uri, path, server));
  });

  it.skipIf(missing('qemu-nbd'))('is repeated: qemu-nbd', async () => {
    const path = image();
    const server = await start(qemuNbd(freeSocket(), path));
    await survives(stopped(server.uri, path, server));
  });

  it('is repeated: farbus serve', async () => {
    const path = image();
    const server = await start(farbusServe(freeSocket(), 'x', [`x=${path}`]));
    await survives(stopped(server.uri, path, server));
  });
});

describe('a write in an AoE target that is killed', () => {
  it('is repeated: farbus serve', async () => {
    const path = image();
    const [near, far] = [await freeUdpPort(), await freeUdpPort()];
    const listen = `aoe:1.0@udp:127.0.0.1:${far}/127.0.0.1:${near}?mtu=9000`;
    const server = await start(farbusServe(freeSocket(), 'x', [`x=${path}`, '--listen', listen]));
    await survives(stopped(`aoe:1.0@udp:127.0.0.1:${near}/127.0.0.1:${far}?mtu=9000`, path, server));
  });
});
