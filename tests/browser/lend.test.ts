/**
 * A file that a user picks in Chromium is an export of `farbus serve --web`, for as long as the tab
 * is open, and waits for the tab if it is closed.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { until } from '../support/event-loop.js';
import { LendServer, lendIn, lendOpfsIn, stateOf, stopIn, untilState, type LendTo } from '../support/lend-page.js';
import { ReadOnlyTab } from '../support/read-only-tab.js';
import { tempImage, tempPath } from '../support/temp.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { execute, farbus } from '../interop/farbus.js';

const MiB = 1 << 20;
/** Files have a date in the past: a page does not take a file that has just been changed. */
const date = 1_700_000_000;

function oldImage(content: Uint8Array | number, name?: string): string {
  const path = tempImage(content, name);
  utimesSync(path, date, date);
  return path;
}

let server: LendServer;
let nbd: string;
let to: Omit<LendTo, 'name'>;

beforeAll(async () => {
  server = await LendServer.start(120, `system=${tempImage(MiB)}`);
  ({ nbd, to } = server);
});

afterAll(() => server.close());

function newPage(): Promise<Page> {
  return server.pages.open(server.browser);
}

describe('a picked file', () => {
  test('is read by nbdcopy, and by nbdinfo, under a name with odd characters', async () => {
    const content = randomBytes(5 * MiB + 7);
    const name = 'CD «1» 100 %.iso';
    const page = await server.lent(oldImage(content), name);
    const uri = nbd + encodeURIComponent(name);
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [uri, copy])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(copy).equals(content)).toBe(true);
    const info = JSON.parse((await execute('nbdinfo', ['--json', uri])).stdout) as { exports: object[] };
    expect(info.exports[0]).toMatchObject({ 'export-size': content.length, is_read_only: true });
    await until(async () => ((await page.evaluate('globalThis.use?.bytesRead ?? 0')) as number) >= content.length);
    await stopIn(page);
    expect(await stateOf(page)).toEqual(['stopped', 'it is no longer lent']);
    expect((await farbus('info', uri)).stderr).toContain('the server has no export');
    await page.close();
  });

  test('tabs that are closed and opened during reads cost the readers no error', async () => {
    const content = randomBytes(16 * MiB);
    const file = oldImage(content);
    let page = await server.lent(file, 'cd');
    let over = false;
    const loop = (async () => {
      const results = [];
      do results.push(await execute('nbdcopy', ['--request-size=65536', `${nbd}cd`, tempPath('copy.img')]));
      while (!over);
      return results;
    })();
    for (let round = 0; round < 3; round++) {
      await page.close();
      page = await server.lent(file, 'cd');
    }
    over = true;
    for (const result of await loop) expect(result).toMatchObject({ code: 0, stderr: '' });
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [`${nbd}cd`, copy])).toMatchObject({ code: 0 });
    expect(readFileSync(copy).equals(content)).toBe(true);
    await stopIn(page);
    await page.close();
  });

  test('that changes while it is lent is refused from then on, and is no longer the same', async () => {
    const file = oldImage(randomBytes(40 * MiB));
    const page = await server.lent(file, 'changing');
    writeFileSync(file, randomBytes(40 * MiB));
    const { code, stderr } = await execute('nbdcopy', [`${nbd}changing`, tempPath('copy.img')]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('Input/output error')]);
    await page.close();
    const again = await newPage();
    utimesSync(file, date + 10, date + 10);
    await lendIn(again, file, { ...to, name: 'changing' });
    expect(await untilState(again, 'refused')).toMatch(/^not the file that was lent under this name, or changed since/);
    await again.close();
  });

  test('of a second tab is refused while the first one lends under the name', async () => {
    const file = oldImage(randomBytes(MiB));
    const first = await server.lent(file, 'shared');
    const second = await newPage();
    await lendIn(second, file, { ...to, name: 'shared' });
    expect(await untilState(second, 'refused')).toBe(
      'another tab lends under this name: close it first, or choose another name',
    );
    expect(await stateOf(first)).toMatchObject(['lent', expect.anything()]);
    await lendIn(second, file, { ...to, name: 'system' });
    expect(await untilState(second, 'refused')).toContain('there is an export with this name already');
    await stopIn(first);
    await first.close();
    await second.close();
  });
});

describe('a disk in the private file system of the page', () => {
  test('is written; if the tab is closed during a write, the flushed bytes stay', async () => {
    const flushed = randomBytes(4 * MiB);
    const open = async () => {
      const page = await newPage();
      await lendOpfsIn(page, flushed.length, { ...to, name: 'opfs' });
      await untilState(page, 'lent');
      return page;
    };
    let page = await open();
    const file = tempImage(flushed);
    expect(await execute('nbdcopy', ['--flush', file, `${nbd}opfs`])).toMatchObject({ code: 0, stderr: '' });
    const writer = await openNbd(`${nbd}opfs`);
    await writer.write(2 * MiB, new Uint8Array(MiB).fill(1));
    const waiting = writer.write(3 * MiB, new Uint8Array(MiB).fill(2));
    await page.close();
    page = await open();
    await waiting;
    // The first write was acknowledged, and lost with the page.
    await expect(writer.flush()).rejects.toMatchObject({ kind: 'io' });
    await writer.flush();
    await writer.close();
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [`${nbd}opfs`, copy])).toMatchObject({ code: 0, stderr: '' });
    const now = readFileSync(copy);
    expect(now.subarray(0, 3 * MiB).equals(flushed.subarray(0, 3 * MiB))).toBe(true);
    await stopIn(page);
    await page.close();
  });
});

describe('a token that may lend', () => {
  test('lends under its names only, and reads nothing', async () => {
    const token = (await farbus('token', 'mine.iso', '--lend')).stdout.trim();
    const page = await newPage();
    const file = oldImage(randomBytes(MiB));
    await lendIn(page, file, { ...to, token, name: 'other.iso' });
    expect(await untilState(page, 'refused')).toContain('the token may not lend under this name');
    await lendIn(page, file, { ...to, token, name: 'mine.iso' });
    await untilState(page, 'lent');
    const headers = { authorization: `Bearer ${token}` };
    expect(await (await fetch(`${to.server}/api/exports`, { headers })).json()).toMatchObject({ exports: [] });
    const web = to.server.replace('http:', 'nbd+ws:');
    for (const name of ['system', 'mine.iso', '']) {
      expect((await farbus('info', `${web}/${name}?token=${token}`)).stderr).toContain('there is no such export');
    }
    expect((await fetch(`${to.server}/api/computers`, { headers })).status).toBe(403);
    const list = (await farbus('token', '--list')).stdout;
    expect(list).toMatch(/^[0-9a-f]{8} {2}lend {2}expires .* {2}mine\.iso$/m);
    await farbus('token', '--revoke', list.slice(0, 8));
    expect(await untilState(page, 'refused')).toContain('expired or was revoked');
    await page.close();
  });
});

describe('a foreign page', () => {
  test('in the dialect of OpenBMC, with the bare token as its subprotocol, lends its file', async () => {
    const content = randomBytes(3 * MiB);
    const token = (await farbus('token', '--lend')).stdout.trim();
    const socket = new WebSocket(`${to.server.replace('http:', 'ws:')}/lend/foreign`, [token], {
      origin: server.pages.origin,
    });
    socket.on('open', () => {
      const tab = new ReadOnlyTab(
        content,
        (message) => socket.send(message),
        () => socket.close(),
      );
      socket.on('message', (message: Buffer) => tab.receive(message));
    });
    await until(async () => (await farbus('info', `${nbd}foreign`)).code === 0);
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [`${nbd}foreign`, copy])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(copy).equals(content)).toBe(true);
    socket.terminate();
  });
});
