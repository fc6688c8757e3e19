/**
 * Writes that are held up while the gateway that sent them is killed and restarted. Once a client
 * of the new gateway has written the same block and flushed, the old write must not land on it. A
 * block that was flushed before the gateway was killed must still be there. The write is held in
 * the server's dd, in its SFTP server, in a disk behind another Farbus server, or in the network of
 * an AoE target. The killed gateway is `farbus serve` or `farbus attach`.
 *
 * Not here: the disk's own process is killed (ghost-disk), `farbus run` is killed (ghost-run).
 */
import { createSocket, type Socket } from 'node:dgram';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { AtaFlag, AtaArgument, Header } from '../../src/protocol/aoe/spec.js';
import {
  fill,
  holder,
  holding,
  withHoldingSshd,
  image,
  imageSize,
  letterOf,
  sftpServersOf,
  signalIfThere,
  type Held,
} from '../support/held-writes.js';
import {
  farbusAttach,
  farbusServe,
  freePort,
  freeSocket,
  missing,
  nbdkit,
  type NbdPeer,
} from '../support/nbd-peers.js';
import { cannotSshd, writeScript } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';
import { until } from '../support/event-loop.js';

const rounds = process.env['FARBUS_TEST_ALL'] ? 5 : 1;
vi.setConfig({ testTimeout: rounds * 60_000 });
const state = process.env['XDG_STATE_HOME']!;
const sources = join(state, 'farbus/sources');

const opened: BlockDevice[] = [];
const peers: NbdPeer[] = [];
const ends: (() => unknown)[] = [];
afterEach(async () => {
  // Kill the gateways: their proper end is not tested here, and a held write would delay it.
  for (const peer of peers.splice(0).reverse()) await peer.kill();
  for (const device of opened.splice(0)) await device.close();
  for (const end of ends.splice(0)) await end();
  process.env['XDG_STATE_HOME'] = state;
  rmSync(sources, { recursive: true, force: true });
});

async function start(peer: Promise<NbdPeer>): Promise<NbdPeer> {
  peers.push(await peer);
  return peer;
}

const attach = (source: string): Promise<NbdPeer> => start(farbusAttach(freeSocket(), source));
const serve = (source: string, ...args: readonly string[]): Promise<NbdPeer> =>
  start(farbusServe(freeSocket(), 'g', [`g=${source}`, ...args]));

async function open(uri: string): Promise<BlockDevice> {
  const device = await openNbd(uri, { reconnectSeconds: 60 });
  opened.push(device);
  return device;
}

/** Place of a block that is flushed before the gateway is killed. */
const flushedAt = 65536;

/** The letter of the block at `offset`, as the client reads it. */
async function letterAt(device: BlockDevice, offset: number): Promise<string> {
  const block = new Uint8Array(4096);
  await device.read(offset, buffersOf(block));
  return String.fromCharCode(block[0]!);
}

/** Holds up a write and ends the gateway. */
async function killed(
  held: Held,
  gate: NbdPeer,
  victims = [gate],
): Promise<{ device: BlockDevice; older: Promise<unknown> }> {
  const device = await open(gate.uri);
  await device.write(0, fill('0'));
  // By this block, the client recognises the disk of the restarted gateway.
  await device.write(flushedAt, fill('w'));
  await device.flush();
  held.arm();
  // The client repeats this write through the new gateway.
  const older = device.write(0, fill('A'));
  await held.caught();
  for (const victim of victims) await victim.kill();
  return { device, older };
}

/** Overwrites the block after the older write is acknowledged, and flushes. */
async function overwritten(device: BlockDevice, older: Promise<unknown>): Promise<void> {
  await older;
  await device.write(0, fill('B'));
  await device.flush();
}

/**
 * @param behind which of two chained gateways is killed; undefined: there is only one, which is
 *   killed
 * @param command the command that is the gateway
 */
async function survives(held: Held, behind?: 'inner' | 'both', command = serve): Promise<void> {
  const inner = await command(held.source);
  const gate = behind ? await serve(inner.uri) : inner;
  await survive(held, gate, behind === 'both' ? [gate, inner] : [inner]);
}

/** @param victims the processes that are killed while the client uses `gate` */
async function survive(held: Held, gate: NbdPeer, victims: NbdPeer[]): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const { device, older } = await killed(held, gate, victims);
    for (const victim of [...victims].reverse()) await victim.start();
    const newer = overwritten(device, older);
    // A fence may have to wait for the old write. Without a fence, the newer write ends long
    // before.
    await Promise.race([newer, sleep(2000)]);
    await held.release();
    await newer;
    expect(await letterAt(device, 0)).toBe('B');
    expect(await letterAt(device, flushedAt)).toBe('w');
    expect(held.letter()).toBe('B');
    expect(gate.output).not.toMatch(/may still land|cannot be read/);
  }
}

describe.skipIf(cannotSshd() !== undefined)('a write that a server by ssh holds up', () => {
  const folder = tempFolder();
  const sshd = withHoldingSshd(folder);

  it('in dd does not land after the gateway was killed', async () => {
    const path = image();
    await survives(holder(`ssh+dd://test${path}`, path, folder));
  });

  it.each(['inner', 'both'] as const)(
    'in dd does not land after two gateways were used: killed: %s',
    async (behind) => {
      const path = image();
      await survives(holder(`ssh+dd://test${path}`, path, folder), behind);
    },
  );

  it('in dd of a server by AoE does not land after that server was killed', async () => {
    const path = image();
    const held = holder(`ssh+dd://test${path}`, path, folder);
    const [near, far] = [(await freePort()).port, (await freePort()).port];
    const inner = await serve(held.source, '--listen', `aoe:1.0@udp:127.0.0.1:${far}/127.0.0.1:${near}?mtu=9000`);
    const gate = await serve(`aoe:1.0@udp:127.0.0.1:${near}/127.0.0.1:${far}?mtu=9000`);
    await survive(held, gate, [inner]);
  });

  it('in dd does not land after farbus attach was killed', async () => {
    const path = image();
    await survives(holder(`ssh+dd://test${path}`, path, folder), undefined, attach);
  });

  it('in the SFTP server does not land after the gateway was killed', async () => {
    const path = image();
    let stopped: number[] = [];
    await survives({
      source: `ssh+sftp://test${path}`,
      arm: () => {
        stopped = sftpServersOf(sshd(), path);
        for (const pid of stopped) process.kill(pid, 'SIGSTOP');
      },
      // The write is in the pipe to the server.
      caught: () => sleep(500),
      release: async () => {
        for (const pid of stopped) signalIfThere(pid, 'SIGCONT');
        await sleep(500);
      },
      letter: () => letterOf(path),
    });
  });
});

/** nbdkit on an image, which can hold up one write, with a Farbus server in front of it. */
async function heldBehindNbd(): Promise<Held> {
  const [path, folder] = [image(), tempFolder()];
  const write = `dd of=${path} bs=64k oflag=seek_bytes conv=notrunc seek=$4 2>/dev/null`;
  const script = writeScript(
    join(folder, 'disk'),
    `case "$1" in
get_size) echo ${imageSize};; thread_model) echo parallel;; can_write|can_flush|flush) exit 0;;
pread) dd if=${path} bs=64k iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null;;
pwrite) ${holding(folder, 'true', write)};;
open) echo h;; *) exit 2;;
esac`,
  );
  const disk = await start(nbdkit(freeSocket(), ['sh', script]));
  const upstream = await serve(disk.uri);
  return holder(upstream.uri, path, folder);
}

describe.skipIf(missing('nbdkit'))('a write that the disk of an NBD server holds up', () => {
  it('does not land after the gateway was killed', async () => {
    await survives(await heldBehindNbd());
  });

  it('does not land after farbus attach was killed', async () => {
    await survives(await heldBehindNbd(), undefined, attach);
  });

  it('does not land after the gateway was killed twice, the second time while it fenced', async () => {
    const held = await heldBehindNbd();
    const gate = await serve(held.source);
    const { device, older } = await killed(held, gate);
    await gate.start();
    await sleep(500);
    await gate.kill();
    await gate.start();
    const newer = overwritten(device, older);
    await Promise.race([newer, sleep(2000)]);
    await held.release();
    await newer;
    expect(held.letter()).toBe('B');
  });

  it('does not land after the gateway was killed with several connections', async () => {
    const held = await heldBehindNbd();
    await survives({ ...held, source: `${held.source}&x-connections=3` });
  });
});

/** The cable of an AoE target, which can hold up one write. */
class HoldingCable {
  readonly #ends: readonly [Socket, Socket];
  #armed = false;
  #held: { readonly key: string; readonly frame: Buffer } | undefined;

  private constructor(ends: readonly [Socket, Socket]) {
    this.#ends = ends;
  }

  /** Connects an initiator and a target that listen on these loopback ports. */
  static async lay(initiator: number, target: number): Promise<HoldingCable> {
    const ends = [createSocket('udp4'), createSocket('udp4')] as const;
    for (const end of ends) await new Promise<void>((resolve) => end.bind(0, '127.0.0.1', resolve));
    const cable = new HoldingCable(ends);
    ends[0].on('message', (frame) => {
      if (!cable.#holds(frame)) ends[1].send(frame, target, '127.0.0.1');
    });
    ends[1].on('message', (frame) => ends[0].send(frame, initiator, '127.0.0.1'));
    cable.release = () => {
      ends[1].send(cable.#held!.frame, target, '127.0.0.1');
      cable.#held = undefined;
    };
    return cable;
  }

  release!: () => void;

  get initiatorsEnd(): number {
    return this.#ends[0].address().port;
  }

  get targetsEnd(): number {
    return this.#ends[1].address().port;
  }

  get holding(): boolean {
    return this.#held !== undefined;
  }

  arm(): void {
    this.#armed = true;
  }

  close(): void {
    for (const end of this.#ends) end.close();
  }

  /** Keeps the first copy of the held command and drops the others. */
  #holds(frame: Buffer): boolean {
    if (frame[Header.command] !== 0 || !(frame[AtaArgument.flags]! & AtaFlag.write)) return false;
    const key = frame.toString('hex', 6, 12) + frame.toString('hex', Header.tag, Header.size);
    if (this.#armed) this.#held = { key, frame: Buffer.from(frame) };
    this.#armed = false;
    return key === this.#held?.key;
  }
}

describe('a write that the network of an AoE target holds up', () => {
  it('does not land after the gateway was killed', async () => {
    const path = image();
    const [initiator, target] = [(await freePort()).port, (await freePort()).port];
    const cable = await HoldingCable.lay(initiator, target);
    ends.push(() => cable.close());
    const listen = `aoe:1.0@udp:127.0.0.1:${target}/127.0.0.1:${cable.targetsEnd}?mtu=9000`;
    await start(farbusServe(freeSocket(), 'x', [`x=${path}`, '--listen', listen]));
    await survives({
      source: `aoe:1.0@udp:127.0.0.1:${initiator}/127.0.0.1:${cable.initiatorsEnd}?mtu=9000`,
      arm: () => cable.arm(),
      caught: () => until(() => cable.holding),
      release: async () => {
        cable.release();
        await sleep(500);
      },
      letter: () => letterOf(path),
    });
  });
});

describe.skipIf(missing('nbdkit'))('the record of a process', () => {
  const files = (): string[] =>
    existsSync(sources)
      ? readdirSync(sources).flatMap((folder) =>
          readdirSync(join(sources, folder)).map((name) => join(sources, folder, name)),
        )
      : [];
  const upstream = async (): Promise<string> => (await start(farbusServe(freeSocket(), 'x', [`x=${image()}`]))).uri;
  const works = async (gate: NbdPeer): Promise<void> => {
    const device = await open(gate.uri);
    await device.write(0, fill('B'));
    await device.flush();
  };

  it('is removed when it closes the source, and none is kept for a source that is not written', async () => {
    const uri = await upstream();
    const reader = await serve(uri, '--read-only');
    expect(files()).toEqual([]);
    await reader.kill('SIGTERM');
    const gate = await serve(uri);
    await works(gate);
    expect(files()).toHaveLength(1);
    await gate.kill('SIGTERM');
    expect(files()).toEqual([]);
  });

  it('warns a second process of the first, which is not fenced', async () => {
    const uri = await upstream();
    const first = await serve(uri);
    await works(first);
    const second = await serve(uri);
    await works(second);
    await works(first);
    expect(second.output).toContain(`process ${first.pid} has it open for writing too`);
    expect(first.output).not.toMatch(/lost|open for writing too/);
    expect(files()).toHaveLength(2);
  });

  it('works with a server that takes a single connection', async () => {
    const args = [`x=${image()}`, '--max-connections', '1'];
    const gate = await serve((await start(farbusServe(freeSocket(), 'x', args))).uri);
    await works(gate);
    await gate.kill();
    await gate.start();
    await works(gate);
    expect(gate.output).not.toContain('warning');
    expect(files()).toHaveLength(1);
  });

  it.each([
    ['is torn', (path: string) => writeFileSync(path, readFileSync(path).subarray(0, 40))],
    ['is empty', (path: string) => writeFileSync(path, '')],
    [
      'is forged',
      (path: string) => writeFileSync(path, '{"version":1,"locked":true,"ended":false,"marks":[{"kind":[]}]}'),
    ],
  ])('is told of where it cannot be read: %s', async (_, damage) => {
    const gate = await serve(await upstream());
    await works(gate);
    await gate.kill();
    damage(files()[0]!);
    await gate.start();
    await works(gate);
    expect(gate.output).toMatch(/the record of the ended process \d+ cannot be read: one of its writes may still land/);
    expect(files()).toHaveLength(1);
  });

  it('is not kept if its folder cannot be used: a warning says so, and the source works', async () => {
    const uri = await upstream();
    process.env['XDG_STATE_HOME'] = '/dev/null/state';
    const gate = await serve(uri);
    await works(gate);
    expect(gate.output.match(/cannot keep in \/dev\/null\/state\S+ what fences/g)).toHaveLength(1);
  });

  it('with a server without sessions gives a warning that old writes may still land', async () => {
    const disk = await start(nbdkit(freeSocket(), ['memory', '1M']));
    const gate = await serve(disk.uri);
    await works(gate);
    const killedPid = gate.pid!;
    await gate.kill();
    await gate.start();
    await works(gate);
    expect(gate.output).toContain(`the server cannot tell whether a write of the ended process ${killedPid} may`);
  });
});
