/**
 * A snapshot whose guest had used a disk is refused after the disk was written, by any computer, as
 * the command line composes it: drives opened from their texts, over NBD from nbdkit and from our
 * own server. Its processor does nothing; the test takes the place of the guest.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { saveRunning, startGuest, type Guest, type StartOptions } from '../../src/app/computer/start.js';
import { Media } from '../../src/app/computer/media.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { maxRecentWrites, RecentWrites } from '../../src/computer/recent-writes.js';
import { isUnchanged, witnessOf } from '../../src/computer/unchanged.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { Random } from '../../src/conformance/random.js';
import { AhciController } from '../../src/device/ahci/controller.js';
import type { Engine } from '../../src/machine/engine.js';
import { readSnapshot, writeSnapshot } from '../../src/machine/snapshot-file.node.js';
import type { SavedContent, Snapshot } from '../../src/machine/snapshot.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { FailingDisk } from '../support/gated-disk.js';
import { TestMemory } from '../support/guest-memory.js';
import { farbusServe, freePort, nbdkit } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';

const memorySize = 1 << 20;
const size = 64 << 20;
const folder = tempFolder();
let files = 0;
const newFile = (end: string): string => join(folder, `${++files}.${end}`);

/** Its console shows `ready` when it starts. */
function engineOf(trap: Engine['trap']): Engine {
  const receivers: ((byte: number) => void)[] = [];
  const parts: Partial<Engine> = {
    memory: new TestMemory(memorySize),
    trap,
    addPci: () => ({ set: () => undefined }),
    descriptors: () => undefined,
    onSerial: (receive) => void receivers.push(receive),
    enterFirmware: () => undefined,
    start: () => queueMicrotask(() => Buffer.from('ready').forEach((byte) => receivers.forEach((one) => one(byte)))),
    pause: async () => undefined,
    snapshots: { save: async () => new Uint8Array(8), restore: () => Promise.resolve() },
    stop: () => Promise.resolve(),
  };
  return parts as Engine;
}

const guest: Guest = { image: undefined, id: 'test', version: 'test', readyText: 'ready' };

interface Running {
  readonly computer: ClientComputer;
  readonly drives: readonly ClientDrive[];
  readonly from: 'boot' | 'snapshot';
  save(path: string): Promise<unknown>;
  end(): Promise<void>;
}
const running = new Set<Running>();
afterEach(async () => {
  for (const one of running) await one.end();
});

/** Starts a computer, from the snapshot file if there is one. */
async function start(
  texts: readonly string[],
  snapshot?: string,
  options: StartOptions = {},
  of = guest,
): Promise<Running> {
  const drives: ClientDrive[] = [];
  const media = new Media(drives, { log: silent }, texts);
  for (const text of texts) drives.push(await openClientDrive(parseSource(text), { log: silent }));
  for (const [index, { device }] of drives.entries()) if (device) media.add(device, texts[index]!);
  const computer = await ClientComputer.create({ drives, createEngine: async (trap) => engineOf(trap) });
  const end = async (): Promise<void> => {
    running.delete(one);
    await computer.stop();
    await media.close();
  };
  const save = (path: string): Promise<unknown> => {
    return saveRunning(computer, of, memorySize, path, new AbortController().signal);
  };
  const one: Running & { from: 'boot' | 'snapshot' } = { computer, drives, from: 'boot', save, end };
  running.add(one);
  try {
    one.from = (await startGuest(computer, of, snapshot, memorySize, options)).from;
    return one;
  } catch (error) {
    await end();
    throw error;
  }
}

/** Saves a computer, ends it, and returns the file. */
async function saved(...texts: string[]): Promise<string> {
  const path = newFile('snap');
  const one = await start(texts);
  await one.save(path);
  await one.end();
  return path;
}

function ext4(): string {
  const path = newFile('img');
  writeFileSync(path, '');
  truncateSync(path, size);
  expect(spawnSync('mkfs.ext4', ['-q', '-F', path]).status).toBe(0);
  return path;
}

function poke(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

/** Changes the time of the last mount in the superblock of ext4, at 1024 + 44, as a mount does. */
const mount = (path: string, start = 0): void => poke(path, start + 1024 + 44, Buffer.from([1, 2, 3, 4]));

const refused =
  /snapshot cannot be used: drive 0 was written after it was saved[^\n]*; delete the file[^\n]*--snapshot-force/;

describe('a snapshot of a computer that ran', () => {
  it('continues on the disk as it was, and is refused once somebody has mounted it', async () => {
    const image = ext4();
    const peer = await nbdkit(await freePort(), ['file', image]);
    const snapshot = await saved(peer.uri);
    for (let i = 0; i < 2; i++) {
      const again = await start([peer.uri], snapshot);
      expect(again.from).toBe('snapshot');
      await again.end();
    }
    mount(image);
    const same = `${peer.uri},assume-same`;
    for (const uri of [peer.uri, same]) await expect(start([uri], snapshot)).rejects.toThrow(refused);
    expect((await start([same], snapshot, { evenIfWritten: true })).from).toBe('snapshot');
    // The file is still there: only a start that may renew it replaces it.
    expect((await readSnapshot(snapshot)).drives[0]!.content).toBeDefined();
    expect((await start([same], snapshot, { renew: true })).from).toBe('boot');
  });

  it('is refused after a mount of a partition of a served file', async () => {
    const image = newFile('img');
    const whole = newFile('img');
    writeFileSync(whole, '');
    truncateSync(whole, size);
    expect(spawnSync('sfdisk', ['-q', whole], { input: 'label: gpt\nsize=8M\nsize=40M\n' }).status).toBe(0);
    copyFileSync(whole, image);
    const peer = await farbusServe(await freePort(), image.slice(folder.length + 1), [image]);
    const snapshot = await saved(peer.uri);
    expect((await start([peer.uri], snapshot)).from).toBe('snapshot');
    mount(image, (1 << 20) + (8 << 20));
    await expect(start([peer.uri], snapshot)).rejects.toThrow(refused);
  });

  it('is refused after a write to its overlay; other overlays do not belong to it', async () => {
    const image = ext4();
    const overlay = newFile('overlay');
    const text = `${image},overlay=${overlay}`;
    const snapshot = await saved(text);
    expect((await start([text], snapshot)).from).toBe('snapshot');
    for (const one of running) await one.end();
    await expect(start([`${image},overlay=${overlay}2`], snapshot)).rejects.toThrow('drive 0 is another disk');
    const other = await openClientDrive(parseSource(text), { log: silent });
    await other.device!.write(0, buffersOf(new Uint8Array(4096).fill(7)));
    await other.device!.flush();
    await other.device!.close();
    await expect(start([text], snapshot)).rejects.toThrow(refused);
  });

  it('names the drive, and does not mind empty drives', async () => {
    const [first, second] = [ext4(), ext4()];
    const texts = [first, ',cdrom', second];
    const snapshot = await saved(...texts);
    expect((await readSnapshot(snapshot)).drives.map(({ content }) => content !== undefined)).toEqual([
      true,
      false,
      true,
    ]);
    mount(second);
    await expect(start(texts, snapshot)).rejects.toThrow('drive 2 was written');
  });
});

it('a snapshot of a system that had only booted is used again after writes', async () => {
  const image = ext4();
  const snapshot = newFile('snap');
  const debian = { ...guest, sparesDrives: true };
  const first = await start([image], snapshot, {}, debian);
  expect(first.from).toBe('boot');
  await first.end();
  mount(image);
  const second = await start([image], snapshot, {}, debian);
  expect(second.from).toBe('snapshot');
  // That computer may have mounted it, so the next snapshot of it holds what it knows.
  const later = newFile('snap');
  await second.save(later);
  await second.end();
  poke(image, 1024 + 44, Buffer.from([9]));
  await expect(start([image], later, {}, debian)).rejects.toThrow(refused);
});

it('a system that mounts its disks when it boots is not started again from its snapshot after writes', async () => {
  const image = ext4();
  const snapshot = newFile('snap');
  const first = await start([image], snapshot);
  expect(first.from).toBe('boot');
  await first.end();
  mount(image);
  await expect(start([image], snapshot)).rejects.toThrow(refused);
});

it('a computer that was paused before it was saved executes no command until it goes on', async () => {
  const one = await start([`${ext4()},bus=ahci`]);
  const resumed = vi.spyOn(AhciController.prototype, 'resume');
  try {
    await one.computer.pause();
    await one.save(newFile('snap'));
    await one.save(newFile('snap'));
    expect(resumed).not.toHaveBeenCalled();
    await one.computer.resume();
    expect(resumed).toHaveBeenCalledTimes(1);
    // One that runs goes on with its devices.
    await one.save(newFile('snap'));
    await one.computer.resume();
    expect(resumed).toHaveBeenCalledTimes(2);
  } finally {
    resumed.mockRestore();
  }
});

describe('the witness of a disk', () => {
  const disk = (): MemoryDevice => new MemoryDevice(new Random(5).bytes(size));
  const witness = (device: BlockDevice, recent: readonly number[] = []) => witnessOf(device, recent, {});
  const isSame = (device: BlockDevice, content: SavedContent) => isUnchanged(device, content, {});
  const block = buffersOf(new Uint8Array(4096).fill(1));

  it('covers what follows the last writes of the guest: commit records, and the last writes before a flush', async () => {
    for (const [write, flush] of [
      [{ fua: true }, false],
      [{}, true],
      [{}, false],
    ] as const) {
      const device = disk();
      const client = new VirtualIoClient(device);
      await client.write(40 << 20, block, write);
      if (flush) await client.flush();
      const content = await witness(device, client.recent.ends());
      expect(await isSame(device, content)).toBe(true);
      await device.write((40 << 20) + 4096, block);
      expect(await isSame(device, content)).toBe(false);
      // A computer that continues remembers the places of the one before.
      const next = new RecentWrites(content.recent);
      expect([next.ends(), next.changed]).toEqual([[(40 << 20) + 4096], false]);
    }
  });

  it('reads at most some MiB of a disk of any size', async () => {
    const device = disk();
    let bytes = 0;
    const read = device.read.bind(device);
    device.read = (offset, into, options) => {
      bytes += into.length;
      return read(offset, into, options);
    };
    const many = Array.from({ length: maxRecentWrites }, (_, i) => (i + 2) * 1_500_000);
    const { places } = await witness(device, many);
    expect(bytes).toBeLessThan(4 << 20);
    expect(places.every(([offset, length]) => offset % 4096 === 0 && offset + length <= size)).toBe(true);
  });

  it('leaves out bad sectors, and fails if the disk does', async () => {
    for (const odd of [512, 4096, 5 * 512, (1 << 20) + 512]) {
      const device = new MemoryDevice(odd);
      const content = await witness(device, [odd]);
      expect(await isSame(device, content)).toBe(true);
      await device.write(odd - 512, buffersOf(new Uint8Array(512).fill(3)));
      expect(await isSame(device, content)).toBe(false);
    }
    expect((await witness(new FailingDisk(size, 'io'))).places).toEqual([]);
    await expect(witness(new FailingDisk(size, 'unreachable'))).rejects.toThrow();
    await expect(isSame(new FailingDisk(size, 'io'), await witness(disk()))).rejects.toThrow();
  });

  it('remembers the last places of writes, and one place of a log that grows', () => {
    const recent = new RecentWrites();
    expect(recent.changed).toBe(false);
    for (let i = 0; i < 100; i++) recent.write(i * 8192, 4096, true);
    expect(recent.ends()).toEqual([99 * 8192 + 4096]);
    for (let i = 0; i < 100; i++) recent.write(i * (4 << 20), 4096, true);
    expect(recent.ends()).toHaveLength(maxRecentWrites);
    for (let i = 0; i < 9; i++) recent.write(i * (4 << 20), 4096, false);
    expect(
      recent
        .ends()
        .slice(-4)
        .sort((a, b) => a - b),
    ).toEqual([5, 6, 7, 8].map((i) => i * (4 << 20) + 4096));
    expect(recent.changed).toBe(true);
  });
});

describe('a snapshot file with another witness', () => {
  const base: Snapshot = {
    key: 'k',
    drives: [{ size, blockSize: 512, readOnly: false, disk: 'size=1', shown: { serial: '', model: '', uuid: '' } }],
    devices: [],
    engine: new Uint8Array(8),
  };
  const reading = async (content: unknown): Promise<unknown> => {
    const path = newFile('snap');
    await writeSnapshot(path, { ...base, drives: [{ ...base.drives[0]!, content: content as SavedContent }] });
    return readSnapshot(path).then(
      () => 'taken',
      (error: { fault?: string }) => error.fault,
    );
  };

  it('is damaged if its places are not on the disk, or too many', async () => {
    expect(await reading({ places: [[0, size, 1]], recent: [size] })).toBe('taken');
    const places = (...all: unknown[]) => ({ places: all, recent: [] });
    for (const bad of [
      null,
      1,
      'text',
      [],
      {},
      { places: [] },
      { recent: [] },
      places(null),
      places([]),
      places([0, 1]),
      places([0, size + 1, 0]),
      places([size, 1, 0]),
      places([-1, 1, 0]),
      places([0.5, 1, 0]),
      places([0, 1e300, 0]),
      places(['0', '1', '2']),
      places([0, 1, null]),
      places([0, size, 1], [0, size, 1]),
      places(...new Array<unknown>(1000).fill([0, 1, 1])),
      { places: [], recent: [size + 1] },
      { places: [], recent: [null] },
      { places: [], recent: new Array<number>(1000).fill(1) },
    ]) {
      expect(await reading(bad), JSON.stringify(bad).slice(0, 80)).toBe('damaged');
    }
  });
});
