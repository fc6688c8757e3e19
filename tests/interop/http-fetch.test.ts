/** `farbus/http`: objects on web servers by fetch(). Node's own fetch stands for a browser's. */
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openHttp } from '../../src/api/http.js';
import type { BlockDevice } from '../../src/block/device.js';
import { createOverlay, overlayStoreSize } from '../../src/block/filters/overlay-store.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { conformance } from '../conformance/suite.js';
import { ObjectServer, rangeOf } from '../support/http-server.js';

const content = randomBytes(1_000_001);
let server: ObjectServer;

beforeAll(async () => {
  server = await ObjectServer.start(content);
});
afterAll(() => server.stop());

describe('an object that is read by fetch()', () => {
  const closing: BlockDevice[] = [];
  const open = async (...given: Parameters<typeof openHttp>): Promise<BlockDevice> => {
    const device = await openHttp(...given);
    closing.push(device);
    return device;
  };
  const read = async (device: BlockDevice, offset: number, length: number): Promise<boolean> => {
    const bytes = Buffer.alloc(length);
    await device.read(offset, bytes);
    return bytes.equals(content.subarray(offset, offset + length));
  };

  afterEach(async () => {
    server.fault = () => false;
    for (const device of closing.splice(0)) await device.close();
  });

  it('has its length and its bytes, also when the server fails in passing', async () => {
    const device = await open(server.url);
    expect(device.info).toMatchObject({ size: content.length, readOnly: true });
    server.fault = (request, response, count) => {
      if (count % 3 === 0) request.socket.destroy();
      else if (count % 3 === 1) response.writeHead(503, { 'retry-after': '0' }).end();
      else return false;
      return true;
    };
    expect(await read(device, 1000, 700_000)).toBe(true);
  });

  it('is never mixed with another version, and refused without ranges', async () => {
    const device = await open(server.url);
    server.fault = (request, response) => void server.send(response, rangeOf(request), { etag: '"2"' }) === undefined;
    await expect(read(device, 0, 512)).rejects.toThrow(/has changed since it was opened/);
    server.fault = (_request, response) => void response.writeHead(200).end(content) === undefined;
    await expect(open(server.url)).rejects.toThrow(/does not serve ranges/);
  });

  it('gets logins and signatures for the origin of its address only', async () => {
    const other = await ObjectServer.start(content);
    server.fault = (_request, response) => void response.writeHead(302, { location: other.url }).end() === undefined;
    const before = server.requests.length;
    const authorize = (_url: string, headers: object): Record<string, string> => ({
      ...headers,
      authorization: 'Bearer T',
    });
    const device = await open(server.url, { authorize });
    expect(await read(device, 5000, 5000)).toBe(true);
    await open(server.url.replace('//', '//me:secret@'));
    const logins = server.requests.slice(before).map(({ headers }) => headers.authorization);
    expect(logins).toEqual(['Bearer T', `Basic ${Buffer.from('me:secret').toString('base64')}`]);
    expect(other.requests.some(({ headers }) => headers.authorization !== undefined)).toBe(false);
    await other.stop();
  });

  it('ends the transfer of a read that is given up', async () => {
    const device = await open(server.url);
    const ended = new Promise<void>((resolve) => {
      server.fault = (request) => {
        request.once('close', resolve);
        return true;
      };
    });
    const abort = new AbortController();
    const asked = server.requests.length;
    const given = device.read(0, Buffer.alloc(512), { signal: abort.signal });
    while (server.requests.length === asked) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort();
    await expect(given).rejects.toMatchObject({ kind: 'aborted' });
    await ended;
  });
});

conformance(
  'an overlay on an object that is read by fetch()',
  async () => {
    const base = await openHttp(server.url);
    const store = new MemoryDevice(overlayStoreSize(base), { blockSize: 1 });
    return { device: await createOverlay(base, store) };
  },
  { openReadOnly: async () => ({ device: await openHttp(server.url) }), steps: 100, region: 256 << 10 },
);
