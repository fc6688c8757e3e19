/**
 * Long reads of files, sent by sendfile(2): every byte arrives in its place, however much the
 * stream takes at a time.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { FileRange, FileRanges } from '../../src/block/direct.js';
import { MeterFilter } from '../../src/export/meter.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { testWithKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';
import { exportsOf, Peer } from './nbd-target-peer.js';

const size = 8 << 20;

const bytes = new Random(1).bytes(size);

/**
 * A disk in a file, which counts as cached if `ready` says so. Counts file ranges that were lent
 * and returned.
 */
class FileDisk extends MemoryDevice {
  lent = 0;
  back = 0;
  ready: (offset: number) => boolean = () => true;
  failing = false;
  readonly #fd: number;
  readonly #shift: number;

  /** @param shift offset of the disk in the file, in bytes */
  constructor(path: string, shift: number) {
    super(bytes);
    this.#fd = openSync(path, 'r');
    this.#shift = shift;
  }

  protected override get uncheckedFiles(): FileRanges {
    return { resident: (offset) => this.#resident(offset) };
  }

  #resident(offset: number): FileRange | undefined {
    if (!this.ready(offset)) return undefined;
    this.lent++;
    return {
      fd: this.#fd,
      offset: offset + this.#shift,
      ready: (at) => this.ready(at - this.#shift),
      release: () => this.back++,
    };
  }

  protected override async doRead(...request: Parameters<MemoryDevice['doRead']>): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (this.failing) throw new Error('a bad sector');
    return super.doRead(...request);
  }

  protected override async doClose(): Promise<void> {
    closeSync(this.#fd);
  }
}

function disk(shift = 0): FileDisk {
  const path = tempPath('disk');
  const file = new Uint8Array(shift + size);
  file.set(bytes, shift);
  writeFileSync(path, file);
  return new FileDisk(path, shift);
}

/**
 * Lets the peer's stream take files. `room` says how many bytes it takes before it is full for a
 * while.
 */
function sendFiles(peer: Peer, room: (length: number) => number): { sent: number } {
  const counts = { sent: 0 };
  const { stream } = peer;
  const sendFile = (fd: number, offset: number, length: number): number => {
    if (stream.blocked || stream.destroyed) return 0;
    const count = Math.min(length, room(length));
    if (count > 0) {
      const piece = new Uint8Array(count);
      expect(readSync(fd, piece, 0, count, offset)).toBe(count);
      stream.write([piece]);
      counts.sent += count;
    }
    if (count < length) {
      stream.blocked = true;
      setImmediate(() => stream.unblock());
    }
    return count;
  };
  Object.assign(stream, { sendFile });
  return counts;
}

describe('a read that is sent from a file', () => {
  it.each(['simple', 'structured', 'extended'] as const)('has a header of the style %s', async (style) => {
    const device = disk(4096);
    const peer = new Peer(exportsOf({ disk: new MeterFilter(device) }));
    const counts = sendFiles(peer, (length) => length);
    await peer.enter('disk', { structured: style !== 'simple', extended: style === 'extended' });
    const { data, error } = await peer.ask({ command: 0, offset: 512, length: 1 << 20 });
    expect(error).toBe(0);
    expect(Buffer.compare(data, bytes.subarray(512, 512 + (1 << 20)))).toBe(0);
    expect(counts.sent).toBe(1 << 20);
    expect([device.lent, device.back]).toEqual([1, 1]);
    peer.target.destroy();
  });

  it.each(['127.0.0.1:4711', '[::1]:4711', '[::ffff:127.0.0.1]:4711'])('is not over TCP from %s', async (from) => {
    const device = disk();
    const peer = new Peer(exportsOf({ disk: device }));
    const counts = sendFiles(peer, (length) => length);
    Object.assign(peer.stream, { peer: from });
    await peer.enter('disk');
    const { data } = await peer.ask({ command: 0, offset: 512, length: 1 << 20 });
    expect(Buffer.compare(data, bytes.subarray(512, 512 + (1 << 20)))).toBe(0);
    expect([counts.sent, device.lent]).toEqual([0, 0]);
    peer.target.destroy();
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'keeps every byte in its place with partial writes and evicted pages (seed %i)',
    async (seed) => {
      const random = new Random(seed);
      const device = disk(8192);
      const peer = new Peer(exportsOf({ disk: device }));
      const counts = sendFiles(peer, (length) =>
        random.below(3) === 0 ? 0 : 1 + random.below(Math.min(length, 400_000)),
      );
      device.ready = () => random.below(4) !== 0;
      await peer.enter('disk');
      const requests = Array.from({ length: 40 }, (_, cookie) => {
        const length = 512 * (1 + random.below(random.chance(0.5) ? 2048 : 64));
        return { command: 0, cookie: BigInt(cookie), offset: 512 * random.below((size - length) / 512 + 1), length };
      });
      for (const request of requests) await peer.request(request);
      // Answers may arrive in any order; each names its request.
      const open = new Map(requests.map((request) => [request.cookie, request]));
      while (open.size > 0) {
        const head = await peer.read(20);
        const view = new DataView(head.buffer);
        expect(view.getUint16(6)).toBe(1);
        const request = open.get(view.getBigUint64(8))!;
        open.delete(request.cookie);
        const data = (await peer.read(view.getUint32(16))).subarray(8);
        expect(Buffer.compare(data, bytes.subarray(request.offset, request.offset + request.length))).toBe(0);
      }
      expect(counts.sent).toBeGreaterThan(0);
      expect(device.back).toBe(device.lent);
      peer.target.destroy();
      await peer.target.finished;
      await device.close();
    },
  );

  it('is read into memory if it is not in the page cache', async () => {
    const device = disk(4096);
    const peer = new Peer(exportsOf({ disk: new MeterFilter(device) }));
    const counts = sendFiles(peer, (length) => length);
    await peer.enter('disk');
    device.ready = () => false;
    const { data, error } = await peer.ask({ command: 0, offset: 512, length: 1 << 20 });
    expect(error).toBe(0);
    expect(Buffer.compare(data, bytes.subarray(512, 512 + (1 << 20)))).toBe(0);
    expect([device.lent, counts.sent]).toEqual([0, 0]);
    peer.target.destroy();
    await peer.target.finished;
    await device.close();
  });

  it('ends the connection if the rest cannot be read, and releases the file', async () => {
    const device = disk();
    const peer = new Peer(exportsOf({ disk: device }));
    await peer.enter('disk');
    device.failing = true;
    // The target trusts a check of the page cache for some milliseconds: wait longer.
    Object.assign(peer.stream, {
      sendFile: () => {
        const until = performance.now() + 6;
        while (performance.now() < until);
        device.ready = () => false;
        return 0;
      },
    });
    await peer.request({ command: 0, offset: 0, length: 1 << 20 });
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
    expect(device.back).toBe(device.lent);
    await device.close();
  });

  it('releases the file when its client disconnects', async () => {
    const device = disk();
    const peer = new Peer(exportsOf({ disk: device }));
    await peer.enter('disk');
    Object.assign(peer.stream, { sendFile: () => 0 });
    peer.stream.blocked = true;
    for (let i = 0; i < 5; i++) await peer.request({ command: 0, cookie: BigInt(i), offset: 0, length: 1 << 20 });
    expect(device.lent - device.back).toBe(5);
    peer.target.destroy();
    await peer.target.finished;
    expect(device.back).toBe(device.lent);
    // Closing would wait forever for ranges that are not returned.
    await device.close();
  });
});

describe('a file on a local disk', () => {
  testWithKoffi('is lent for what is in memory, and not beyond its end', async () => {
    const path = tempPath('disk');
    writeFileSync(path, bytes);
    execFileSync('sync', [path]);
    const device = await openPath(path, { exclusive: true });
    const range = device.files!.resident(1 << 20, 1 << 20);
    expect(range).toBeDefined();
    expect(range!.ready(1 << 20, 1 << 20)).toBe(true);
    let closed = false;
    const closing = device.close().then(() => (closed = true));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(closed).toBe(false);
    range!.release();
    await closing;
  });

  testWithKoffi('is not, where a page has left memory or the file has become shorter', async () => {
    const path = tempPath('disk');
    writeFileSync(path, bytes);
    const native = fileCalls()!;
    const fd = openSync(path, 'r+');
    try {
      expect(native.resident(fd, 512, size - 512)).toBe(true);
      // The way to drop a range from the page cache with dd. Only pages that are on the disk can be
      // dropped.
      execFileSync('sync', [path]);
      execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
      // A file system in memory (tmpfs) keeps its pages in any case.
      const isMemory = statfsSync(path).type === 0x01021994;
      expect(native.resident(fd, 0, size)).toBe(isMemory);
      readSync(fd, new Uint8Array(4096), 0, 4096, 4096);
      expect(native.resident(fd, 4096, 4096)).toBe(true);
      truncateSync(path, 1 << 20);
      expect(native.resident(fd, 0, 2 << 20)).toBe(false);
      expect(native.resident(fd, 0, 64 << 20)).toBe(false);
    } finally {
      closeSync(fd);
    }
  });
});
