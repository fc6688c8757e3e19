/**
 * The library in Node: sources by text, servers, copies and sites in a few words, and the example
 * of a gateway, with libnbd's tools on the other side.
 *
 * Not here: computers (tests/boot/library.test.ts), the packed package (package.test.ts).
 */
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { FarbusError, FaultFilter, MemoryDevice } from '../../src/api/index.js';
import { compare, copy, openSource, serve, startSite } from '../../src/api/node.js';
import { Random } from '../../src/conformance/random.js';
import { tempFolder, tempImage, tempPath } from '../support/temp.js';
import { execute, startProgram } from './farbus.js';

const size = 1 << 20;
const content = new Random(3).bytes(size);
const examples = fileURLToPath(new URL('../../examples/library', import.meta.url));

describe('openSource', () => {
  it('opens a text with its filters, and keeps the writes in the overlay', async () => {
    const image = tempImage(content);
    const overlay = tempPath('changes.img');
    const disk = await openSource(`${image},overlay=${overlay}`);
    await disk.write(4096, new Uint8Array(512).fill(1));
    await disk.flush();
    const sector = new Uint8Array(512);
    await disk.read(4096, sector);
    await disk.close();
    expect([sector[0], existsSync(overlay)]).toEqual([1, true]);
    expect(readFileSync(image).equals(content)).toBe(true);
  });

  it('opens read-only if it shall, and refuses a wrong text with kind usage', async () => {
    const disk = await openSource(tempImage(content), { readOnly: true });
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'read-only' });
    await disk.close();
    for (const text of ['', 'what://there', 'disk.img,bus=ide', 'disk.img,rate=x']) {
      const error: unknown = await openSource(text).catch((reason: unknown) => reason);
      expect(error, text).toBeInstanceOf(FarbusError);
      expect(error, text).toMatchObject({ kind: 'usage' });
    }
    await expect(openSource(tempPath('missing.img'))).rejects.toThrow(FarbusError);
  });

  it('ends with the reason of its signal', async () => {
    const reason = new Error('enough');
    await expect(openSource('nbd://127.0.0.1:1/x', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('serve', () => {
  it('serves texts and devices in their order, and leaves the devices open', async () => {
    const memory = new MemoryDevice(content.slice());
    const exports = { ram: memory, file: { source: tempImage(2 * size), readOnly: true, description: 'a file' } };
    const server = await serve(exports, { listen: 'nbd://127.0.0.1:0' });
    try {
      expect(server.disks).toMatchObject([
        { name: 'ram', size, readOnly: false, uris: [server.uri('ram')] },
        { name: 'file', size: 2 * size, readOnly: true },
      ]);
      expect(server.uri()).toBe(server.uri('ram'));
      expect(() => server.uri('none')).toThrow('give one of ram, file');
      const byDefault = server.uri().replace(/\/ram$/, '/');
      expect((await execute('nbdinfo', ['--size', byDefault])).stdout).toBe(`${size}\n`);
      const copied = tempPath('copied.img');
      expect(await execute('nbdcopy', [server.uri('ram'), copied])).toMatchObject({ code: 0 });
      expect(readFileSync(copied).equals(content)).toBe(true);
      expect((await execute('nbdinfo', ['--can', 'write', server.uri('file')])).code).not.toBe(0);
    } finally {
      await server.close();
      await server.close();
    }
    await memory.read(0, new Uint8Array(512));
    await memory.close();
  });

  it('names an export after its source, and reports an address in use and a wrong source', async () => {
    const image = tempImage(content, 'disk.img');
    const server = await serve(image, { listen: 'nbd://127.0.0.1:0' });
    const at = server.uri();
    expect(at).toMatch(/\/disk\.img$/);
    const place = at.replace('/disk.img', '');
    const memory = new MemoryDevice(size);
    await expect(serve({ other: memory }, { listen: place })).rejects.toThrow(/cannot listen on .*: it is in use/);
    // A server that did not start has not closed the caller's device.
    await memory.flush();
    await server.close();
    await expect(serve({ a: image, b: tempPath('missing') })).rejects.toThrow(/missing/);
    await expect(serve({})).rejects.toThrow('at least one export');
    await expect(serve({ a: { source: memory, tlsOnly: true } })).rejects.toThrow('give tls');
  });
});

describe('copy and compare', () => {
  it('copies between texts and devices, and compares them', async () => {
    const from = tempImage(content);
    const to = tempPath('to.img');
    const progress: number[] = [];
    const options = { verify: true, onProgress: (done: number) => progress.push(done) };
    expect(await copy(from, to, options)).toEqual({ size, start: 0, copied: size, zeroes: 0 });
    expect(progress.at(-1)).toBe(size);
    const memory = new MemoryDevice(2 * size);
    expect(await copy(to, memory, { verify: true })).toMatchObject({ size });
    // Equal as far as the shorter one goes.
    expect(await compare(from, memory)).toBe(size);
    const back = tempPath('back.img');
    await copy(memory, back);
    truncateSync(back, size);
    expect(await compare(from, back)).toBeUndefined();
    writeFileSync(back, content.with(777, content[777]! ^ 1));
    expect(await compare(back, from)).toBe(777);
    await memory.close();
  });

  it('ends an aborted copy in a way that can be resumed', async () => {
    const bytes = new Random(5).bytes(4 * size);
    const [from, to] = [tempImage(bytes), tempPath('to.img')];
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    await expect(copy(from, to, { signal: stop.signal, jobs: 1, onProgress })).rejects.toThrow(
      /the same copy with resume: true continues/,
    );
    await copy(from, to, { resume: true });
    expect(readFileSync(to).equals(bytes)).toBe(true);
    await expect(copy(from, to, { resume: true })).rejects.toThrow('nothing to resume');
  });

  it('reports a target that is too small, the same disk twice, and a failure', async () => {
    const from = tempImage(content);
    const small = new MemoryDevice(512);
    await expect(copy(from, small)).rejects.toThrow(/the target has 512 bytes, and 1048576 are needed/);
    await expect(copy(from, from)).rejects.toThrow(FarbusError);
    await expect(copy(small, small)).rejects.toThrow('the same device');
    await expect(copy(small, tempPath('x'), { resume: true })).rejects.toMatchObject({ kind: 'usage' });
    const faulty = new FaultFilter(new MemoryDevice(size), [{ on: ['read'], action: 'io' }]);
    const error: unknown = await copy(faulty, new MemoryDevice(size)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FarbusError);
    expect((error as Error).message).toMatch(/^the copy failed: /);
  });
});

describe('startSite', () => {
  it('reports a fault of an object with its line and place, and a missing file', async () => {
    const faulty = { computers: { desk: { role: 'client', network: 'lan' } } } as const;
    await expect(startSite(faulty)).rejects.toThrow(
      /^the site:3: computers\.desk: network: there is no segment lan; segments are: none$/,
    );
    const folder = tempFolder();
    const file = join(folder, 'my.yaml');
    writeFileSync(file, 'computers: { desk: { role: client, drives: [disk.img] } }\n');
    await expect(startSite(file)).rejects.toThrow(/my\.yaml:1: .*there is no file disk\.img/);
  });
});

describe('examples/library/gateway.mjs', () => {
  it('offers a disk of an NBD server, with the writes in an overlay, until a signal ends it', async () => {
    const image = tempImage(content);
    const overlay = tempPath('changes.img');
    const far = await serve(image, { listen: 'nbd://127.0.0.1:0' });
    const gateway = startProgram(process.execPath, join(examples, 'gateway.mjs'), far.uri(), overlay);
    const uri = (await gateway.printed(/^(nbd:.*)\n/m))[1]!;
    const other = tempImage(new Random(4).bytes(size));
    expect(await execute('nbdcopy', ['--flush', other, uri])).toMatchObject({ code: 0 });
    expect(await compare(uri, other)).toBeUndefined();
    expect(readFileSync(image).equals(content)).toBe(true);
    gateway.child.kill('SIGTERM');
    expect(await gateway.ended).toEqual({ code: 0, signal: null });
    await far.close();
  });
});

it('each example of the library has at most 20 lines', () => {
  for (const name of readdirSync(examples)) {
    expect(readFileSync(join(examples, name), 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(20);
  }
});
