/**
 * Pause, snapshot and changes of drives from the web server to a running computer, as `farbus run`
 * composes it. Its processor does nothing.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answerComputer, computerHandler } from '../../src/app/computer/control.js';
import { Media } from '../../src/app/computer/media.js';
import { saveRunning, type Guest } from '../../src/app/computer/start.js';
import { register, type Registration } from '../../src/app/control/registry.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import { silent } from '../../src/base/log.js';
import { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import type { Engine } from '../../src/machine/engine.js';
import { readSnapshot } from '../../src/machine/snapshot-file.node.js';
import { snapshotFile } from '../../src/site/folders.node.js';
import { TestMemory } from '../support/guest-memory.js';
import { tempFolder } from '../support/temp.js';
import { webService, type WebService } from '../support/web-service.js';

const guest: Guest = { image: undefined, id: 'test', version: 'test', readyText: undefined };
const state = { XDG_STATE_HOME: tempFolder() };
const file = snapshotFile(state, 'desk');
/** The calls of its engine. */
const engine: string[] = [];
let computer: ClientComputer;
let media: Media;
let own: Registration;
let server: WebService;

beforeAll(async () => {
  server = await webService('disk=memory:2M', 'disc=memory:1M');
  const texts = ['memory:1M,bus=ahci', ',cdrom', 'memory:1M'];
  const drives: ClientDrive[] = [];
  media = new Media(drives, { log: silent }, texts);
  for (const text of texts) drives.push(await openClientDrive(parseSource(text), { log: silent }));
  for (const [index, { device }] of drives.entries()) if (device) media.add(device, texts[index]!);
  computer = await ClientComputer.create({ drives, createEngine: async (trap) => engineOf(trap) });
  media.setComputer(computer);
  const facts = { state: 'running', uses: texts, reach: [] };
  own = await register({ kind: 'computer', name: 'desk', usual: '', env: process.env, end: () => undefined }, facts);
  const saveSnapshot = (signal: AbortSignal) => saveRunning(computer, guest, 1 << 20, file, signal);
  own.serve(computerHandler({ computer, media, saveSnapshot, usesScreen: false }, new ConsoleFeed()), () => facts);
});
afterAll(async () => {
  await own.close();
  await computer.stop();
  await media.close();
  await server.close();
});

function engineOf(trap: Engine['trap']): Engine {
  const parts: Partial<Engine> = {
    memory: new TestMemory(1 << 20),
    trap,
    addPci: () => ({ set: () => undefined }),
    descriptors: () => undefined,
    onSerial: () => undefined,
    enterFirmware: () => undefined,
    start: () => void engine.push('start'),
    pause: async () => void engine.push('pause'),
    snapshots: { save: async () => new Uint8Array(8), restore: () => Promise.resolve() },
    stop: () => Promise.resolve(),
  };
  return parts as Engine;
}

async function post(act: string, body: object = {}): Promise<[number, unknown]> {
  const headers = { 'content-type': 'application/json' };
  const answer = await server.get(`/api/computers/desk/${act}`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers,
  });
  return [answer.status, await answer.json()];
}

interface Listed {
  readonly can: string[];
  readonly drives: { readonly source?: string; readonly can?: string }[];
}

async function listed(): Promise<Listed> {
  const [one] = (await (await server.get('/api/computers')).json()) as Listed[];
  return one!;
}

test('the list says what the computer and each drive can', async () => {
  const { can, drives } = await listed();
  expect(can).toEqual(['console', 'pause', 'snapshot', 'media', 'attach', 'stop']);
  expect(drives).toEqual([
    { drive: 0, kind: 'disk', source: 'memory:1M,bus=ahci', can: 'detach' },
    { drive: 1, kind: 'cdrom', can: 'insert' },
    { drive: 2, kind: 'disk', source: 'memory:1M' },
  ]);
});

test('a computer is paused and goes on, and never starts because of a snapshot meanwhile', async () => {
  expect(await post('pause')).toEqual([409, { error: 'it has not started yet' }]);
  computer.bootFirmware();
  engine.length = 0;
  expect(await post('pause')).toEqual([200, {}]);
  expect([computer.paused, engine]).toEqual([true, ['pause']]);
  expect(await post('snapshot', { path: '/tmp/elsewhere', file: '../x' })).toEqual([200, { done: `saved to ${file}` }]);
  expect((await readSnapshot(file)).drives).toHaveLength(3);
  // Its console's output can be written again: this does not start it either.
  computer.hold();
  computer.release();
  expect(engine).not.toContain('start');
  expect(await post('resume')).toEqual([200, {}]);
  expect([computer.paused, engine.at(-1)]).toEqual([false, 'start']);
  engine.length = 0;
  expect(await post('resume')).toEqual([200, {}]);
  expect(engine).toEqual([]);
});

test('a snapshot is only in the folder of the state', () => {
  expect(file.startsWith(join(state.XDG_STATE_HOME, 'farbus'))).toBe(true);
  expect(existsSync('/tmp/elsewhere')).toBe(false);
});

test('a disk is detached, and an export attached in its place', async () => {
  expect(await post('attach', { drive: 0, export: 'disk' })).toEqual([
    409,
    { error: 'drive 0 has a disk: detach it first' },
  ]);
  expect(await post('detach', { drive: 2 })).toMatchObject([
    409,
    { error: expect.stringContaining('bus ahci') as unknown },
  ]);
  expect(await post('detach', { drive: 0 })).toEqual([200, { done: 'detached drive 0' }]);
  expect((await listed()).drives[0]).toEqual({ drive: 0, kind: 'disk', can: 'attach' });
  expect((await post('attach', { drive: 0, export: '/etc/passwd' }))[0]).toBe(404);
  expect(await post('attach', { drive: 0, export: 'disk' })).toEqual([200, { done: 'attached to drive 0' }]);
  expect(computer.ahci!.mediumOf(0)!.info.size).toBe(2 << 20);
  expect((await listed()).drives[0]).toMatchObject({ can: 'detach', source: expect.stringMatching(/^nbd:.*disk$/) });
  expect(await post('insert', { drive: 1, export: 'disc' })).toEqual([200, { done: 'inserted into drive 1' }]);
  expect(await post('eject', { drive: 1, force: true })).toEqual([200, { done: 'ejected drive 1' }]);
  // The server has no user left but the attached disk.
  const users = (name: string): number => [...server.service.server.exports.list()].find((one) => one.name === name)!.users.size; // prettier-ignore
  await expect.poll(() => users('disc')).toBe(0);
  expect(users('disk')).toBe(1);
});

test('a computer without a place for snapshots refuses them', async () => {
  const work = { signal: new AbortController().signal, waitsFor: () => undefined };
  const parts = { computer, media, usesScreen: false };
  await expect(answerComputer({ command: 'snapshot' }, parts, work)).rejects.toThrow('no place');
  expect(await answerComputer({ command: 'abilities' }, parts, work)).not.toContain('snapshot');
});

test('a disk whose attachment is not over when the computer ends is closed, and not attached', async () => {
  await media.detach(0);
  const attaching = media.attach(0, 'memory:1M', new AbortController().signal);
  await media.close();
  await expect(attaching).rejects.toThrow('the computer has ended');
  expect(computer.ahci!.mediumOf(0)).toBeUndefined();
});
