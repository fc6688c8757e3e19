/**
 * Far disks on v86's IDE controller, driven through the ports: wrong sequences by a guest, and the
 * drive's reactions.
 */
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import type { WriteOptions } from '../../src/block/device.js';
import { GatedDisk } from '../support/gated-disk.js';
import { IdeBoard, Port } from '../support/ide-board.js';
import { nextIteration } from '../support/event-loop.js';

/** Counts the requests that reach it. */
class CountedDisk extends GatedDisk {
  writes = 0;
  flushes = 0;

  override write(offset: number, from: Buffers, options?: WriteOptions): Promise<void> {
    this.writes++;
    return super.write(offset, from, options);
  }

  override flush(): Promise<void> {
    this.flushes++;
    return super.flush();
  }
}

const bytes = new Uint8Array(1 << 20);
const disk = new CountedDisk(bytes);
const page = 0x10000;
let board: IdeBoard;

beforeAll(async () => {
  board = await IdeBoard.create(disk, new GatedDisk(1 << 20));
});
afterAll(() => board.close());
beforeEach(async () => {
  disk.open();
  await board.reset();
  board.issue({ command: 0xc6, count: 128 });
  disk.writes = disk.flushes = 0;
  bytes.fill(0x11);
  board.memory.at(page, 4096).fill(0x99);
  board.describe(0x8000, [[page, 4096]]);
});

const aborted = 0x04;
const notFound = 0x10;
const failed = () => [board.status & 0x89, board.in(Port.features)];

it('writes only for write commands', async () => {
  board.issue({ command: 0x20, lba: 8 });
  await board.ended();
  board.write(new Uint8Array(512).fill(0x55));
  await board.ended();
  expect(failed()).toEqual([1, aborted]);
  board.issue({ command: 0xec });
  board.write(new Uint8Array(512).fill(0x55));
  await board.ended();
  expect(disk.writes).toBe(0);
});

it('forgets the rest of a write at a reset, and at the next command', async () => {
  board.issue({ command: 0x30, lba: 8 });
  board.write(new Uint8Array(256));
  await board.reset();
  board.write(new Uint8Array(512));
  board.issue({ command: 0x30, lba: 8 });
  board.write(new Uint8Array(256));
  board.issue({ command: 0xef, features: 3 });
  board.write(new Uint8Array(512));
  await nextIteration();
  expect(disk.writes).toBe(0);
  expect(board.status & 0x88).toBe(0);
});

it('has no DMA left after a reset', async () => {
  board.issue({ command: 0xca, lba: 8, count: 8 });
  await board.reset();
  board.out(Port.busMaster, 1);
  await nextIteration();
  expect(disk.writes).toBe(0);
  expect(board.in(Port.busMasterStatus) & 2).toBe(2);
});

it.each([
  ['behind the end', { command: 0x20, lba: 2048 }],
  ['partly behind the end', { command: 0xc8, lba: 2047, count: 2 }],
  ['above 32 bits of sectors', { command: 0x25, lba: 2 ** 40 + 8, wide: true }],
  ['behind the end, to verify', { command: 0x42, lba: 2048, wide: true }],
])('reports sectors beyond the end: %s', (_, task) => {
  board.issue(task);
  expect(failed()).toEqual([1, notFound]);
});

it('reports that there is no sector 0 by cylinder, head and sector', () => {
  for (const port of [Port.lbaLow, Port.lbaMid, Port.lbaHigh]) board.out(port, 0);
  board.out(Port.device, 0);
  board.out(Port.count, 1);
  board.out(Port.command, 0x20);
  expect(failed()).toEqual([1, notFound]);
});

it('moves the range of the command, whatever the registers contain when the bus master starts', async () => {
  board.issue({ command: 0xca, lba: 8, count: 8 });
  board.out(Port.lbaLow, 200);
  board.out(Port.count, 255);
  expect((await board.transfer(false)) & 0xa1).toBe(0);
  const written = bytes.map((byte) => (byte === 0x99 ? 1 : 0));
  expect(written.indexOf(1)).toBe(8 * 512);
  expect(written.lastIndexOf(1)).toBe(16 * 512 - 1);
});

it('accepts multiple commands of 0 or a power of two sectors', async () => {
  board.issue({ command: 0xc6, count: 3 });
  expect(failed()).toEqual([1, aborted]);
  board.issue({ command: 0xc6, count: 0 });
  expect(board.status & 0x89).toBe(0);
  board.issue({ command: 0xc4, lba: 8 });
  expect(failed()).toEqual([1, aborted]);
  board.issue({ command: 0xc6, count: 2 });
  board.issue({ command: 0xc4, lba: 8, count: 4 });
  expect((await board.ended()) & 0x89).toBe(8);
  expect(board.read(1024)).toEqual(new Uint8Array(2048).fill(0x11));
  expect(board.status & 0x89).toBe(0);
});

it('a stopped bus master moves no more data, and the command ends with an error', async () => {
  disk.gated = true;
  board.issue({ command: 0xc8, lba: 8, count: 8 });
  board.out(Port.busMaster, 9);
  board.out(Port.busMaster, 0);
  board.out(Port.busMaster, 9); // and started again, while the drive is busy
  expect(disk.waiting.length).toBe(1);
  disk.open();
  await board.ended();
  expect(failed()).toEqual([1, aborted]);
  expect(board.memory.at(page, 4096).every((byte) => byte === 0x99)).toBe(true);
});

it('EXECUTE DEVICE DIAGNOSTIC to one drive also resets the other', async () => {
  disk.gated = true;
  board.issue({ command: 0xc8, lba: 8, count: 8 });
  board.out(Port.busMaster, 9);
  board.issue({ command: 0x90, slave: true });
  board.out(Port.device, 0x40);
  expect(board.status & 0x80).toBe(0x80);
  disk.open();
  expect((await board.ended()) & 0x81).toBe(0);
  expect(board.memory.at(page, 4096).every((byte) => byte === 0x99)).toBe(true);
});

it('flushes before standby, and resets only packet devices by command', async () => {
  board.issue({ command: 0xe0 });
  await board.ended();
  expect(disk.flushes).toBe(1);
  board.issue({ command: 0x08 });
  expect(failed()).toEqual([1, aborted]);
});

it('has the given world wide name', () => {
  board.issue({ command: 0xec });
  const words = new Uint16Array(board.read(256).buffer);
  expect([...words.subarray(108, 112)]).toEqual([0x3001, 0x0203, 0x0405, 0x0607]);
  expect(words[87]! & 0xc100).toBe(0x4100);
});

it('keeps an answer that comes after 29 s back until the guest resets the drive, or for 3 s', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  disk.gated = true;
  for (const reset of [false, true]) {
    board.issue({ command: 0x30, lba: 8 });
    board.write(new Uint8Array(512));
    await vi.advanceTimersByTimeAsync(29_500);
    disk.waiting.shift()!();
    for (let i = 0; i < 5; i++) await nextIteration();
    expect(board.status & 0x80).toBe(0x80);
    if (reset) await board.reset();
    else await vi.advanceTimersByTimeAsync(3_000);
    expect(board.status & 0x88).toBe(0);
  }
});
