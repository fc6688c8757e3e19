/**
 * Lent exports without a network: tabs call in over streams in memory. First and later calls, other
 * files, two tabs, names, limits, the end of the time to wait, and tabs that break the protocol.
 */
import { openAsBlob, utimesSync, writeFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Lends, type Call, type LendsOptions } from '../../src/app/serve/lends.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { Exports, type Offered } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import type { ByteStream } from '../../src/network/stream.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { pickedDisk, type PickedFile } from '../../src/web/lend/picked.js';
import { until } from '../support/event-loop.js';
import { FakeServer } from '../support/nbd-fake-server.js';
import { ReadOnlyTab } from '../support/read-only-tab.js';
import { streamPair } from '../support/stream-pair.js';
import { tempImage } from '../support/temp.js';

const size = 1 << 20;
const never = new AbortController().signal;
const long = { timeout: 60_000 };

function bytesOf(seed: number, length = size): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, at) => (at * seed + (at >> 9)) & 0xff);
}

function file(
  content: Uint8Array<ArrayBuffer>,
  { lastModified = 1_700_000_000_000, name = 'disk.iso' } = {},
): PickedFile {
  return new File([content], name, { lastModified });
}

function setUp(options: Partial<LendsOptions> = {}) {
  const exports = new Exports('server');
  const lines: string[] = [];
  const log = { log: (_level: string, line: string) => lines.push(line) };
  const lends = new Lends({ exports, log, reconnectSeconds: 60, ...options });
  onTestFinished(async () => {
    lends.close();
    await exports.close();
  });
  return { exports, lends, lines };
}

interface TestCall extends Call {
  readonly refusals: string[];
}

const usualToken = { id: '1a2b3c4d', control: false };
const consoleToken = { id: 'console', control: true };

function callWith(stream: ByteStream, token = usualToken): TestCall {
  const refusals: string[] = [];
  const refuse = (why: string): void => {
    refusals.push(why);
    stream.destroy();
  };
  return { stream, token, refusals, refuse };
}

/** A tab with a disk. It can call several times. */
function tabWith(device: BlockDevice) {
  const exports = new Exports(`tab-${Math.random()}`);
  exports.add({ name: 'lent', device, isDefault: true });
  const server = new Server(exports, silent);
  onTestFinished(() => server.drain(0));
  return {
    call(token?: Call['token']): TestCall {
      const [near, far] = streamPair();
      server.accept(far);
      return callWith(near, token);
    },
  };
}

async function lent(lends: Lends, exports: Exports, device: BlockDevice, name = 'cd'): Promise<[Offered, TestCall]> {
  const call = tabWith(device).call();
  await lends.receive(name, call);
  expect(call.refusals).toEqual([]);
  return [exports.find(name)!, call];
}

describe('a lent file', () => {
  test('is an export; requests wait for a tab that is closed and opened again', async () => {
    const { exports, lends } = setUp();
    const content = bytesOf(7);
    const [{ device }, call] = await lent(lends, exports, await pickedDisk(file(content)));
    expect(device.info).toMatchObject({ size, readOnly: true });
    expect(await readBytes(device, 4096, 8192)).toEqual(content.subarray(4096, 12288));
    call.stream.destroy();
    const reads = [0, 512, 65536, size - 1000].map((at) => readBytes(device, at, 1000));
    const again = tabWith(await pickedDisk(file(content))).call();
    await lends.receive('cd', again);
    expect(await Promise.all(reads)).toEqual([0, 512, 65536, size - 1000].map((at) => content.slice(at, at + 1000)));
    expect(again.refusals).toEqual([]);
    expect(lends.names).toEqual(['cd']);
  });

  test.for([
    ['with other content', file(bytesOf(9))],
    ['with another date', file(bytesOf(7), { lastModified: 1_700_000_001_000 })],
    ['with another length', file(bytesOf(7, size - 512))],
    ['with a longer content', file(bytesOf(7, size + 512))],
  ] as const)('another file, %s, is refused, and requests wait on for the right one', async ([, other]) => {
    const { exports, lends, lines } = setUp();
    const content = bytesOf(7);
    const [{ device }, call] = await lent(lends, exports, await pickedDisk(file(content)));
    call.stream.destroy();
    const read = readBytes(device, 512, 512);
    const wrong = tabWith(await pickedDisk(other)).call();
    await lends.receive('cd', wrong);
    await until(() => wrong.refusals.length > 0);
    expect(wrong.refusals[0]).toMatch(/^not the file that was lent under this name, or changed since: /);
    expect(lines.join('\n')).toContain('has another file than was lent as "cd"');
    await lends.receive('cd', tabWith(await pickedDisk(file(content))).call());
    expect(await read).toEqual(content.slice(512, 1024));
  });

  test('that comes and goes quickly, and many of them, leave few lines in the log, and how it ended', async () => {
    const { exports, lends, lines } = setUp();
    const quickly = async (name: string): Promise<void> => {
      const [, call] = await lent(lends, exports, new MemoryDevice(512), name);
      lends.stop(name, call);
    };
    for (let times = 0; times < 50; times++) await quickly('cd');
    for (let each = 0; each < 50; each++) await quickly(`disk-${each}`);
    lends.close();
    expect(lines.length).toBeLessThan(50);
    expect(lines.slice(-3)).toEqual([
      expect.stringMatching(/: lends "cd", 512 bytes \(and 48 more like this before\)$/),
      '"cd" is no longer lent: the browser has stopped lending it (and 48 more like this before)',
      expect.stringMatching(/^\d+ more lines about lent exports were left out$/),
    ]);
  });

  test('is not taken over with another token, except by the console', async () => {
    const { exports, lends } = setUp();
    const disk = file(bytesOf(7));
    const [{ device }, call] = await lent(lends, exports, await pickedDisk(disk));
    call.stream.destroy();
    const read = readBytes(device, 512, 512);
    const other = tabWith(await pickedDisk(disk)).call({ id: '5e6f7a8b', control: false });
    await lends.receive('cd', other);
    expect(other.refusals).toEqual(['a tab with another token lends under this name: choose another name']);
    const owner = tabWith(await pickedDisk(disk)).call(consoleToken);
    await lends.receive('cd', owner);
    expect(await read).toEqual(bytesOf(7).slice(512, 1024));
    expect(owner.refusals).toEqual([]);
  });

  test('waits on for its own tab if the console calls with another file', async () => {
    const { exports, lends } = setUp();
    const [{ device }, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    call.stream.destroy();
    const read = readBytes(device, 512, 512);
    const wrong = tabWith(await pickedDisk(file(bytesOf(9)))).call(consoleToken);
    await lends.receive('cd', wrong);
    await until(() => wrong.refusals.length > 0);
    const again = tabWith(await pickedDisk(file(bytesOf(7)))).call();
    await lends.receive('cd', again);
    expect(again.refusals).toEqual([]);
    expect(await read).toEqual(bytesOf(7).slice(512, 1024));
  });

  test('is not stopped by a call whose disk is not known yet', async () => {
    const { exports, lends } = setUp();
    const [, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    call.stream.destroy();
    const unknown = callWith(streamPair()[0], consoleToken);
    await lends.receive('cd', unknown);
    lends.stop('cd', unknown);
    expect(exports.find('cd')).toBeDefined();
    unknown.stream.destroy();
    const again = tabWith(await pickedDisk(file(bytesOf(7)))).call();
    await lends.receive('cd', again);
    await readBytes(exports.find('cd')!.device, 512, 512);
    lends.stop('cd', again);
    expect(exports.find('cd')).toBeUndefined();
  });

  test('that changes while it is lent is read no more', async () => {
    const { exports, lends } = setUp();
    const path = tempImage(bytesOf(3));
    utimesSync(path, 1_700_000_000, 1_700_000_000);
    const blob = Object.assign(await openAsBlob(path), { name: 'disk.img', lastModified: 1_700_000_000_000 });
    const [{ device }] = await lent(lends, exports, await pickedDisk(blob));
    // Beyond what may have been read ahead.
    expect((await readBytes(device, 0, 512)).length).toBe(512);
    writeFileSync(path, bytesOf(4));
    await expectKind('io', readBytes(device, size / 2, 4096));
    utimesSync(path, 1_700_000_000, 1_700_000_000);
    await expectKind('io', readBytes(device, size / 2 + 4096, 4096));
  });

  test('that is empty, or has just been written, is not taken', async () => {
    await expect(pickedDisk(file(new Uint8Array(0)))).rejects.toThrow('is empty');
    await expect(pickedDisk(file(bytesOf(1), { lastModified: Date.now() }))).rejects.toThrow('changed just now');
  });

  test('of any length is served to its last byte', async () => {
    const { exports, lends } = setUp();
    const content = bytesOf(5, 100_001);
    const [{ device }] = await lent(lends, exports, await pickedDisk(file(content)));
    expect(await readBytes(device, 99_990, 11)).toEqual(content.slice(99_990));
  });

  test('of a tab that does not return: requests fail, and the name is free again', long, async () => {
    const { exports, lends } = setUp({ reconnectSeconds: 0.2 });
    const [offered, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    offered.hold();
    call.stream.destroy();
    await expectKind('unreachable', readBytes(offered.device, 0, 512));
    // A user is there: the tab may still come back.
    await lends.receive('cd', tabWith(await pickedDisk(file(bytesOf(7)))).call());
    await until(() =>
      readBytes(offered.device, 0, 512).then(
        () => true,
        () => false,
      ),
    );
    lends.names.forEach((name) => expect(name).toBe('cd'));
    offered.release();
  });

  test('without users and without a tab: ends after the time to wait', long, async () => {
    const { exports, lends } = setUp({ reconnectSeconds: 0.2 });
    const [, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    call.stream.destroy();
    await until(() => exports.find('cd') === undefined);
    expect(lends.names).toEqual([]);
    // Another file may have the name now.
    const [{ device }] = await lent(lends, exports, await pickedDisk(file(bytesOf(9))));
    expect(await readBytes(device, 0, 512)).toEqual(bytesOf(9).slice(0, 512));
  });

  test('is removed at once if its tab stops lending it', async () => {
    const { exports, lends } = setUp();
    const [{ device }, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    lends.stop('cd', callWith(streamPair()[0]));
    expect(lends.names).toEqual(['cd']);
    lends.stop('cd', call);
    expect(exports.find('cd')).toBeUndefined();
    await expectKind('closed', readBytes(device, 0, 512));
  });

  test('ends with the configuration giving its name to another export, which stays', async () => {
    const { exports, lends } = setUp();
    const [, call] = await lent(lends, exports, await pickedDisk(file(bytesOf(7))));
    exports.remove('cd');
    const other = exports.add({ name: 'cd', device: new MemoryDevice(512) });
    lends.stop('cd', call);
    expect(exports.find('cd')).toBe(other);
  });
});

describe('a lent disk that is written', () => {
  test('keeps its writes when the tab returns with the same disk; a flush tells of what may be lost', async () => {
    const { exports, lends } = setUp();
    const disk = new MemoryDevice(bytesOf(2));
    const [{ device }, call] = await lent(lends, exports, disk);
    await writeBytes(device, 4096, new Uint8Array(4096).fill(1));
    await device.flush();
    await writeBytes(device, 8192, new Uint8Array(4096).fill(2));
    call.stream.destroy();
    await lends.receive('cd', tabWith(disk).call());
    await expectKind('io', device.flush());
    await device.flush();
    expect(await readBytes(device, 4096, 4096)).toEqual(new Uint8Array(4096).fill(1));
  });

  test('an older copy of it is refused, although most of its blocks are the same', async () => {
    const { exports, lends } = setUp();
    const content = bytesOf(7);
    const copy = new MemoryDevice(content.slice());
    const disk = new MemoryDevice(content);
    const [{ device }, call] = await lent(lends, exports, disk);
    for (let at = 0; at < 16 * 8192; at += 8192) await readBytes(device, at, 4096);
    for (let round = 1; round < 8; round++) {
      await writeBytes(device, size / 2, new Uint8Array(4096).fill(round));
      await device.flush();
    }
    call.stream.destroy();
    const old = tabWith(copy).call();
    await lends.receive('cd', old);
    await until(() => old.refusals.length > 0);
    expect(old.refusals[0]).toContain('its content differs');
    const again = tabWith(disk).call();
    await lends.receive('cd', again);
    expect(await readBytes(device, size / 2, 4096)).toEqual(new Uint8Array(4096).fill(7));
    expect(again.refusals).toEqual([]);
  });

  test('another disk without marks is recognised by its content', async () => {
    const { exports, lends } = setUp();
    const [{ device }, call] = await lent(lends, exports, new MemoryDevice(bytesOf(2)));
    await readBytes(device, 0, 65536);
    call.stream.destroy();
    const other = tabWith(new MemoryDevice(bytesOf(3))).call();
    await lends.receive('cd', other);
    await until(() => other.refusals.length > 0);
    expect(other.refusals[0]).toContain('its content differs');
  });
});

describe('two tabs', () => {
  test('the second one with a name is refused while the first answers', async () => {
    const { exports, lends } = setUp();
    const content = bytesOf(7);
    const [{ device }] = await lent(lends, exports, await pickedDisk(file(content)));
    const second = tabWith(await pickedDisk(file(content))).call();
    await lends.receive('cd', second);
    expect(second.refusals).toEqual(['another tab lends under this name: close it first, or choose another name']);
    expect(await readBytes(device, 0, 512)).toEqual(content.slice(0, 512));
  });

  test('the second one takes over if the first is silent', long, async () => {
    const { exports, lends } = setUp({ answerMs: 50 });
    const first = new FakeServer();
    const call = callWith(await first.dialer().connect(never));
    await lends.receive('cd', call);
    const { device } = exports.find('cd')!;
    first.answer = () => undefined;
    const read = readBytes(device, 0, 512);
    const second = new FakeServer();
    second.content[0] = 5;
    await lends.receive('cd', callWith(await second.dialer().connect(never)));
    expect((await read)[0]).toBe(5);
  });

  test('of several that wait for the silent first one, the latest takes over', long, async () => {
    const { exports, lends } = setUp({ answerMs: 50 });
    const first = new FakeServer();
    await lends.receive('cd', callWith(await first.dialer().connect(never)));
    const { device } = exports.find('cd')!;
    first.answer = () => undefined;
    const read = readBytes(device, 0, 512);
    const disk = new MemoryDevice(size);
    // A tab loses its call before that is decided on, and calls again.
    const [lost, latest] = [tabWith(disk).call(), tabWith(disk).call()];
    const received = [lends.receive('cd', lost), lends.receive('cd', latest)];
    lost.stream.destroy();
    await Promise.all(received);
    expect(latest.refusals).toEqual([]);
    expect((await read)[0]).toBe(0);
  });
});

describe('names and limits', () => {
  test.for(['CD Größe 100 % «neu»', 'a/b', '../../etc', '日本語.iso', '?token=x&y#z', '-rf', ' '])(
    '%s is a name',
    async (name) => {
      const { exports, lends } = setUp();
      await lent(lends, exports, new MemoryDevice(512), name);
      expect(exports.find(name)?.name).toBe(name);
    },
  );

  test.for([
    ['', 'needs a name'],
    ['x'.repeat(256), 'longer than 255 bytes'],
    ['a\nb', 'control characters'],
    ['a\u202eb', 'control characters'],
    ['a\ud800', 'control characters'],
    ['x;token=y', 'cannot have ";token="'],
    ['system', 'there is an export with this name already'],
  ] as const)('%j is refused', async ([name, why]) => {
    const { exports, lends } = setUp();
    exports.add({ name: 'system', device: new MemoryDevice(512) });
    const call = tabWith(new MemoryDevice(512)).call();
    await lends.receive(name, call);
    expect(call.refusals[0]).toContain(why);
    expect(lends.names).toEqual([]);
    expect(exports.find('system')!.device.info.size).toBe(512);
  });

  test('no more than the limit are lent', async () => {
    const { exports, lends } = setUp({ most: 2 });
    const [, first] = await lent(lends, exports, new MemoryDevice(512), 'one');
    await lent(lends, exports, new MemoryDevice(512), 'two');
    const third = tabWith(new MemoryDevice(512)).call();
    await lends.receive('three', third);
    expect(third.refusals).toEqual(['2 files are lent already: stop lending one of them first']);
    lends.stop('one', first);
    await lent(lends, exports, new MemoryDevice(512), 'three');
  });
});

describe('tabs that say nothing', () => {
  const silentCall = (token: Call['token']): TestCall => callWith(streamPair()[0], token);

  test('hold few places of the limit for each token', async () => {
    const { exports, lends } = setUp();
    const token = { id: 'aaaa', control: false };
    const calls = Array.from({ length: 6 }, (_, i) => {
      const call = silentCall(token);
      return { call, done: lends.receive(`silent ${i}`, call) };
    });
    await Promise.all(calls.slice(4).map(({ done }) => done));
    const why = '4 files of this token have not been opened yet: wait until they are';
    expect(calls.map(({ call }) => call.refusals)).toEqual([[], [], [], [], [why], [why]]);
    // Other tokens are not concerned.
    const other = tabWith(new MemoryDevice(512)).call({ id: 'bbbb', control: false });
    await lends.receive('other', other);
    expect([other.refusals, exports.find('other') !== undefined]).toEqual([[], true]);
    for (const { call } of calls) call.stream.destroy();
    await Promise.all(calls.map(({ done }) => done));
  });
});

describe('a foreign tab', () => {
  /** A call of a tab in the dialect of OpenBMC's web interface. */
  function dialect(content: Uint8Array<ArrayBuffer>): { call: TestCall; tab: ReadOnlyTab } {
    const [near, far] = streamPair();
    const tab = new ReadOnlyTab(
      content,
      (message) => void far.write([message]),
      () => far.end(),
    );
    far.attach({ data: (chunk) => tab.receive(chunk), drain: () => undefined, closed: () => undefined });
    return { call: callWith(near), tab };
  }

  test('that knows NBD_OPT_EXPORT_NAME only lends its file, and comes back', async () => {
    const { exports, lends } = setUp();
    const content = bytesOf(7);
    const { call } = dialect(content);
    await lends.receive('iso', call);
    const { device } = exports.find('iso')!;
    expect(device.info).toMatchObject({ size, readOnly: true });
    expect(await readBytes(device, 1, 70_000)).toEqual(content.slice(1, 70_001));
    call.stream.destroy();
    const read = readBytes(device, 8192, 512);
    const other = dialect(bytesOf(9)).call;
    await lends.receive('iso', other);
    await until(() => other.refusals.length > 0);
    await lends.receive('iso', dialect(content).call);
    expect(await read).toEqual(content.slice(8192, 8704));
  });
});

describe('a hostile tab', () => {
  async function hostile(terms: ConstructorParameters<typeof FakeServer>[0] = {}) {
    const set = setUp({ reconnectSeconds: 0.2 });
    const tab = new FakeServer(terms);
    const call = callWith(await tab.dialer().connect(never));
    await set.lends.receive('cd', call);
    return { ...set, tab, call, device: set.exports.find('cd')?.device };
  }

  test('that claims a size of 2^63 bytes is refused', async () => {
    const { call, lends } = await hostile({ size: 2 ** 63 });
    expect(call.refusals[0]).toContain('more than 2^53 are not supported');
    expect(lends.names).toEqual([]);
  });

  test('that has fewer bytes than it claims gives errors, no other bytes', async () => {
    const { device, tab } = await hostile({ size: 2 ** 40 });
    tab.answer = (request) => {
      if (request.offset < 4096) tab.serve(request);
      else request.connection.simple(request, 28);
    };
    expect((await readBytes(device!, 0, 512)).length).toBe(512);
    await expect(readBytes(device!, 2 ** 39, 512)).rejects.toThrow();
  });

  test.for([
    ['answers wrong cookies', (tab: FakeServer) => (tab.answer = (request) => tab.serve({ ...request, cookie: 99n }))],
    ['sends what was not asked for', (tab: FakeServer) => tab.last.stream.write([new Uint8Array(1 << 20)])],
    ['never answers', (tab: FakeServer) => (tab.answer = () => undefined)],
  ] as const)('that %s loses its call, and its users get errors', long, async ([, attack]) => {
    const { device, tab, exports, call } = await hostile();
    attack(tab);
    const read = readBytes(device!, 0, 512);
    await until(() => tab.requests.length > 0 || tab.last.stream.closed);
    call.stream.destroy();
    await expectKind('unreachable', read);
    await until(() => exports.find('cd') === undefined);
  });

  test('that sends no greeting of NBD is refused', async () => {
    const { lends } = setUp();
    const [near, far] = streamPair();
    far.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
    far.write([new TextEncoder().encode('GET / HTTP/1.1\r\nHost: x\r\n\r\n')]);
    const call = callWith(near);
    await lends.receive('cd', call);
    expect(call.refusals[0]).toContain('no greeting of an NBD server');
    expect(lends.names).toEqual([]);
  });
});
