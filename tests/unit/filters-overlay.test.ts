import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { FarbusError } from '../../src/base/errors.js';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { ReadOnlyFilter } from '../../src/block/filters/read-only.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { decodeHeader, encodeHeader, overlayLayout } from '../../src/block/filters/overlay-format.js';
import { ClusterMap, inBase, inStore, isZero } from '../../src/block/filters/overlay-map.js';
import { createOverlay, openOverlay, overlayStoreSize } from '../../src/block/filters/overlay-store.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { openPath } from '../../src/storage/open.node.js';
import { openOverlayFile } from '../../src/storage/overlay-file.node.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { allExtents } from '../../src/conformance/zeroes.js';
import { testWithKoffi } from '../support/koffi.js';
import { tempPath, tempImage } from '../support/temp.js';

const size = 1 << 20;
const content = new Random(5).bytes(size);
const baseOf = (identity = 'disk'): MemoryDevice => new MemoryDevice(content.slice(), { readOnly: true, identity });

describe('the map', () => {
  test('against a plain array, over pages', () => {
    const random = new Random(3);
    const clusters = 40_000;
    const map = new ClusterMap();
    const model = new Uint8Array(clusters);
    for (let round = 0; round < 300; round++) {
      const start = random.below(clusters);
      const end = Math.min(clusters, start + 1 + random.below(random.chance(0.1) ? 20_000 : 40));
      const state = random.pick([inBase, inStore, isZero] as const);
      map.set(start, end, state);
      model.fill(state, start, end);
      const at = random.below(clusters);
      const limit = at + 1 + random.below(clusters - at);
      let stop = at;
      while (stop < limit && model[stop] === model[at]) stop++;
      expect(map.run(at, limit)).toEqual({ state: model[at], end: stop });
    }
    const copy = new ClusterMap();
    for (const { index, bytes } of map.takeChanged()) expect(copy.load(index, bytes)).toEqual([]);
    for (let at = 0; at < clusters; at++) if (copy.get(at) !== model[at]) expect.fail(`cluster ${at}`);
    expect(map.takeChanged()).toEqual([]);
    expect(copy.load(1, Uint8Array.of(...new Uint8Array(4094), 0x0c, 0x40))).toEqual([16384 + 4094 * 4 + 1]);
  });
});

describe('the format', () => {
  test('a header is read back unchanged, or reported as damaged', () => {
    const header = { layout: overlayLayout(123 * 512, 8192), id: '0123456789abcdef'.repeat(2), baseIdentity: 'nbd:ä' };
    const bytes = encodeHeader(header);
    expect(decodeHeader(bytes, 'x')).toEqual(header);
    for (const at of [8, 16, 24, 32, 40, 50, 64, 66, 4000, 4095]) {
      const bad = bytes.slice();
      bad[at]! ^= 1;
      expect(() => decodeHeader(bad, 'x')).toThrow(FarbusError);
    }
    expect(() => decodeHeader(new Uint8Array(4096), 'x')).toThrow(/not an overlay/);
    const newer = bytes.slice();
    newer[8] = 2;
    expect(() => decodeHeader(newer, 'x')).toThrow(/version 2/);
  });
});

describe('an overlay', () => {
  test('changes nothing on the base, and reads from it only unwritten data', async () => {
    const asked: TraceEntry[] = [];
    const base = new TraceFilter(new MemoryDevice(content.slice()), (entry) => asked.push(entry));
    const overlay = await createOverlay(base, new MemoryDevice(overlayStoreSize(base)));
    await writeBytes(overlay, 0, new Uint8Array(65536).fill(1));
    await overlay.writeZeroes(65536, 65536);
    await overlay.trim(131072, 65536);
    await readBytes(overlay, 0, 196608);
    expect(asked).toEqual([]);
    await writeBytes(overlay, 200 * 1024 + 512, new Uint8Array(512).fill(2));
    expect(asked.map(({ op, offset, length }) => [op, offset, length])).toEqual([['read', 200 * 1024, 4096]]);
    await overlay.flush();
    expect(asked.every(({ op }) => op === 'read')).toBe(true);
    await expectBytes(overlay, 256 * 1024, content.subarray(256 * 1024));
    await overlay.close();
  });

  test('concurrent writes to parts of one cluster all take effect', async () => {
    const base = baseOf();
    const overlay = await createOverlay(base, new MemoryDevice(overlayStoreSize(base, { clusterSize: 65536 })), {
      clusterSize: 65536,
    });
    const model = content.slice(0, 65536 * 2);
    const random = new Random(8);
    const order = random.shuffled(Array.from({ length: 256 }, (_, index) => index)).slice(0, 200);
    await Promise.all(
      order.map((index) => {
        const bytes = random.bytes(512);
        model.set(bytes, index * 512);
        return writeBytes(overlay, index * 512, bytes);
      }),
    );
    await expectBytes(overlay, 0, model);
    await overlay.close();
  });

  test('survives closing and opening; the next flush of an unchanged one writes nothing', async () => {
    const store = new MemoryDevice(overlayStoreSize(baseOf()));
    const keep = new (class extends TraceFilter {
      protected override async doClose(): Promise<void> {}
    })(store, (entry) => seen.push(entry));
    const seen: TraceEntry[] = [];
    const first = await createOverlay(baseOf(), keep);
    await writeBytes(first, 4096, new Uint8Array(8192).fill(7));
    await first.writeZeroes(65536, 4096);
    await first.close();
    const bytes = new Uint8Array(store.info.size);
    await store.read(0, buffersOf(bytes));
    const again = new MemoryDevice(bytes);
    const second = await openOverlay(baseOf(), again);
    const model = content.slice();
    model.fill(7, 4096, 12288).fill(0, 65536, 69632);
    await expectBytes(second, 0, model);
    expect(second.info.identity).toBe(first.info.identity);
    await second.close();
    expect(seen.filter(({ op }) => op === 'flush').length).toBeGreaterThanOrEqual(4);
  });

  test('extents: zero where zeroed, elsewhere those of the base and the store', async () => {
    const base = new MemoryDevice(size);
    const overlay = await createOverlay(base, new MemoryDevice(overlayStoreSize(base)));
    await writeBytes(overlay, 0, new Uint8Array(4096).fill(1));
    await overlay.writeZeroes(8192, 8192);
    const extents = await allExtents(overlay, 0, 32768);
    expect(extents.map(({ offset, length, zero }) => [offset, length, zero])).toEqual([
      [0, 8192, false],
      [8192, 8192, true],
      [16384, 16384, false],
    ]);
    await overlay.close();
  });

  test('refuses another base, a damaged or cut-off store, a store that is too small', async () => {
    const store = async (): Promise<Uint8Array> => {
      const bytes = new Uint8Array(overlayStoreSize(baseOf()));
      await (await createOverlay(baseOf(), new MemoryDevice(bytes))).close();
      return bytes;
    };
    const good = await store();
    const name = 'my.overlay';
    const open = (base: MemoryDevice, bytes: Uint8Array): Promise<unknown> =>
      openOverlay(base, new MemoryDevice(bytes, { blockSize: 1 }), { name });
    await expect(open(baseOf('other disk'), good)).rejects.toThrow(/my\.overlay is the overlay of another disk/);
    await expect(open(new MemoryDevice(size + 512), good)).rejects.toThrow(/another disk \(of 1048576 bytes/);
    await expect(open(baseOf(), good.slice(0, 65536))).rejects.toThrow(/cut off/);
    await expect(open(baseOf(), new Uint8Array(100))).rejects.toThrow(/not an overlay/);
    // Clusters marked as partly in the store: one without any of its sectors, one beyond the end of
    // the disk.
    for (const at of [5, 100]) {
      const bad = good.slice();
      bad[4096 + at] = 0xff;
      await expect(open(baseOf(), bad)).rejects.toThrow(/map .* damaged/);
    }
    await expect(createOverlay(baseOf(), new MemoryDevice(65536), { name })).rejects.toThrow(/needs/);
    await expect(createOverlay(baseOf(), new MemoryDevice(65536), { clusterSize: 5000 })).rejects.toThrow(
      /cluster size/,
    );
    // An unknown identity cannot be compared, so it is accepted.
    await open(baseOf(''), good);
  });

  test('a failing base or store fails the request and damages nothing', async () => {
    const base = new FaultFilter(baseOf());
    const store = new FaultFilter(new MemoryDevice(overlayStoreSize(base)));
    const overlay = await createOverlay(base, store);
    const sector = new Uint8Array(512).fill(3);

    const baseFails = base.add({ on: ['read'], action: 'unreachable' });
    await expectKind('unreachable', writeBytes(overlay, 512, sector));
    await expectKind('unreachable', readBytes(overlay, 0, 4096));
    baseFails.remove();
    await expectBytes(overlay, 0, content.subarray(0, 8192));

    const full = store.add({ on: ['write'], action: 'no-space' });
    await expectKind('no-space', writeBytes(overlay, 512, sector));
    await expectKind('no-space', writeBytes(overlay, 0, new Uint8Array(65536)));
    full.remove();
    await expectBytes(overlay, 0, content.subarray(0, 65536));

    await writeBytes(overlay, 512, sector);
    const noFlush = store.add({ on: ['flush'], action: 'io' });
    await expectKind('io', overlay.flush());
    await expectKind('io', writeBytes(overlay, 512, sector, { fua: true }));
    noFlush.remove();
    const noMap = store.add({ on: ['write'], range: { offset: 4096, length: 4096 }, count: 1, action: 'io' });
    await expectKind('io', overlay.flush());
    expect(noMap.hits).toBe(1);
    // The map's page is not written yet.
    await overlay.flush();
    const model = content.slice(0, 4096);
    model.set(sector, 512);
    await expectBytes(overlay, 0, model);
    await overlay.close();
  });

  test.each([4096, 65536])('a bad sector of the base stays one: clusters of %i', async (clusterSize) => {
    const bad = 8 * 512;
    const faults = [{ on: ['read'], range: { offset: bad, length: 512 }, action: 'io' }] as const;
    const base = (): BlockDevice => new FaultFilter(baseOf(), faults);
    const bytes = new Uint8Array(overlayStoreSize(base(), { clusterSize }));
    let overlay = await createOverlay(base(), new MemoryDevice(bytes), { clusterSize });
    const model = content.slice(0, clusterSize * 4);
    const put = async (offset: number, data: Uint8Array): Promise<void> => {
      await writeBytes(overlay, offset, data);
      model.set(data, offset);
    };
    const all = async (): Promise<void> => {
      await expectKind('io', readBytes(overlay, bad, 512));
      await expectBytes(overlay, 0, model.subarray(0, bad));
      await expectBytes(overlay, bad + 512, model.subarray(bad + 512));
    };
    // In the bad sector's cluster: one sector next to it, and several that continue into the next
    // cluster.
    await put(bad + 1024, new Random(1).bytes(512));
    await put(clusterSize === 4096 ? bad + 512 : clusterSize - 1024, new Random(2).bytes(4096));
    await all();
    await overlay.flush();
    await all();
    await overlay.close();
    overlay = await openOverlay(base(), new MemoryDevice(bytes));
    await all();
    await overlay.writeZeroes(bad + 512, 512);
    model.fill(0, bad + 512, bad + 1024);
    await all();
    // A write over the bad sector repairs it. The cluster is then complete.
    await put(bad, new Random(3).bytes(512));
    await expectBytes(overlay, 0, model);
    await overlay.close();
    overlay = await openOverlay(base(), new MemoryDevice(bytes));
    await expectBytes(overlay, 0, model);
    await overlay.writeZeroes(0, clusterSize * 4);
    await expectBytes(overlay, 0, new Uint8Array(clusterSize * 4));
    await overlay.close();
  });

  test('an overlay of Farbus 0.1.0, without a sector table, still works', async () => {
    const layout = overlayLayout(size, 4096);
    const store = new Uint8Array(layout.tableOffset);
    store.set(encodeHeader({ layout, id: '0'.repeat(32), baseIdentity: '' }));
    const base = new FaultFilter(baseOf(), [{ on: ['read'], range: { offset: 0, length: 512 }, action: 'io' }]);
    const overlay = await openOverlay(base, new MemoryDevice(store));
    await expectKind('io', writeBytes(overlay, 512, new Uint8Array(512)));
    await writeBytes(overlay, 8192, new Uint8Array(512).fill(7));
    await expectBytes(overlay, 8192, new Uint8Array(512).fill(7));
    await overlay.close();
  });

  test('concurrent flushes share their work', async () => {
    const base = baseOf();
    const seen: TraceEntry[] = [];
    const store = new TraceFilter(new MemoryDevice(overlayStoreSize(base)), (entry) => seen.push(entry));
    const overlay = await createOverlay(base, store);
    seen.length = 0;
    await Promise.all(Array.from({ length: 50 }, () => overlay.flush()));
    expect(seen.length).toBeLessThanOrEqual(2);
    await overlay.close();
  });

  test('a base needs no optional abilities', async () => {
    const base = new ReadOnlyFilter(new MemoryDevice(content.slice()));
    const overlay = await createOverlay(base, new MemoryDevice(overlayStoreSize(base)));
    expect(overlay.info).toMatchObject({ readOnly: false, size, blockSize: 512 });
    await writeBytes(overlay, 0, new Uint8Array(512));
    await overlay.close();
  });
});

describe('an overlay file', () => {
  test('is made sparse, and opened again; the base file stays unchanged', async () => {
    const path = tempImage(content);
    const before = statSync(path);
    const file = tempPath('disk.overlay');
    const bytes = new Random(6).bytes(65536 + 512);
    for (let round = 0; round < 2; round++) {
      const overlay = await openOverlayFile(await openPath(path, { readOnly: true }), file);
      if (round === 0) await writeBytes(overlay, 10 * 512, bytes);
      await expectBytes(overlay, 10 * 512, bytes);
      await expectBytes(overlay, 512 * 1024, content.subarray(512 * 1024));
      await overlay.close();
    }
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(statSync(path).mtimeMs).toBe(before.mtimeMs);
    expect(statSync(file).size).toBeGreaterThan(size);
    expect(statSync(file).blocks * 512).toBeLessThan(256 * 1024);
  });

  test("refuses another kind of file, another disk's overlay and one in use, and names the file", async () => {
    const path = tempImage(content);
    const other = tempImage(content.slice().reverse());
    const file = tempPath('disk.overlay');
    const base = await openPath(path, { readOnly: true });
    const overlay = await openOverlayFile(base, file);
    if (fileCalls()) {
      const second = await openPath(path, { readOnly: true });
      await expect(openOverlayFile(second, file)).rejects.toThrow(/locked/);
      await readBytes(second, 0, 512);
      await second.close();
    }
    await overlay.close();
    const wrong = await openPath(other, { readOnly: true });
    await expect(openOverlayFile(wrong, file)).rejects.toThrow(`${file} is the overlay of another disk`);
    await expect(openOverlayFile(wrong, path)).rejects.toThrow(/is not an overlay/);
    await expect(openOverlayFile(wrong, '/nonexistent/x')).rejects.toThrow(/no such file/);
    await expect(openOverlayFile(wrong, '/tmp')).rejects.toThrow(FarbusError);
    // The refused files were neither changed nor removed.
    expect(readFileSync(path).equals(content)).toBe(true);
    await wrong.close();
    const again = await openOverlayFile(await openPath(path, { readOnly: true }), file);
    await again.close();
  });

  test('is made in an empty file, which keeps its mode, and not in one of zeroes, whatever its length', async () => {
    const path = tempImage(content);
    const base = await openPath(path, { readOnly: true });
    const file = tempPath('disk.overlay');
    writeFileSync(file, '', { mode: 0o640 });
    await (await openOverlayFile(await openPath(path, { readOnly: true }), file)).close();
    expect(statSync(file).mode & 0o777).toBe(0o640);
    const blank = tempPath('blank.img');
    for (const length of [1, 512, 4096, statSync(file).size]) {
      writeFileSync(blank, '');
      truncateSync(blank, length);
      await expect(openOverlayFile(base, blank)).rejects.toThrow(`${blank} is not an overlay`);
      expect(readFileSync(blank).every((byte) => byte === 0)).toBe(true);
      expect(statSync(blank).size).toBe(length);
    }
    await base.close();
  });

  testWithKoffi('gives space back when clusters are zeroed or trimmed', async () => {
    const path = tempImage(content);
    const file = tempPath('disk.overlay');
    const overlay = await openOverlayFile(await openPath(path, { readOnly: true }), file);
    await writeBytes(overlay, 0, content);
    await overlay.flush();
    const full = statSync(file).blocks;
    await overlay.trim(0, size / 2);
    await overlay.writeZeroes(size / 2, size / 2);
    await overlay.flush();
    expect(statSync(file).blocks * 512).toBeLessThan(128 * 1024);
    expect(full * 512).toBeGreaterThanOrEqual(size);
    expect((await readBytes(overlay, 0, size)).every((byte) => byte === 0)).toBe(true);
    await overlay.close();
  });

  test('without koffi: the same', async () => {
    vi.stubEnv('FARBUS_NO_KOFFI', '1');
    const file = tempPath('disk.overlay');
    const base = tempImage(content);
    const overlay = await openOverlayFile(await openPath(base, { readOnly: true }), file);
    await overlay.writeZeroes(4096, 8192);
    await overlay.close();
    const again = await openOverlayFile(await openPath(base, { readOnly: true }), file);
    vi.unstubAllEnvs();
    const model = content.slice();
    model.fill(0, 4096, 12288);
    await expectBytes(again, 0, model);
    await again.close();
  });
});

test('a base that returns no extents fails the request, and is not asked endlessly', async () => {
  const base = new (class extends MemoryDevice {
    protected override doExtents(): Promise<readonly []> {
      return Promise.resolve([]);
    }
  })(content.slice(), { readOnly: true, can: { ...baseOf().info.can, extents: true } });
  await expectKind('io', base.extents(0, size));
});
