/**
 * Clients of servers that break the protocol, make no progress, or send forever: each process ends
 * by itself or on SIGTERM.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { HostileNbd, type Hostility } from '../support/hostile-nbd.js';
import { tempFolder } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const servers: HostileNbd[] = [];
const start = async (how: Hostility): Promise<HostileNbd> => {
  const server = await HostileNbd.start(how);
  servers.push(server);
  return server;
};

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

describe('an NBD server that breaks the protocol', () => {
  const cases: readonly (readonly [Hostility, RegExp])[] = [
    ['options', /too many replies to one option/],
    ['refusal', /the server has no export "x"/],
    ['stranger', /a reply to no request in flight/],
  ];
  it.each(cases)('is reported by farbus info, which then ends: %s', async (how, why) => {
    const server = await start(how);
    const { code, stderr } = await farbus('info', server.uri, '--reconnect', '0');
    expect(stderr).toMatch(why);
    expect(code).toBe(1);
  });
});

describe('SIGTERM ends a client of an NBD server that makes no progress', () => {
  const folder = tempFolder();
  const commands: readonly (readonly [string, (uri: string, how: string) => readonly string[], readonly number[]])[] = [
    ['info', (uri) => ['info', uri], [143]],
    ['copy', (uri, how) => ['copy', uri, join(folder, `${how}.img`), '--quiet'], [143]],
    ['serve', (uri) => ['serve', uri, '--listen', 'nbd://127.0.0.1:0'], [143]],
    ['attach', (uri, how) => ['attach', uri, '--socket', join(folder, `${how}.sock`)], [143]],
  ];

  it.each(commands)('farbus %s, while it connects', async (_name, args, codes) => {
    await Promise.all(
      (['greeting', 'options'] as const).map(async (how) => {
        const server = await start(how);
        const client = startFarbus(...args(server.uri, how));
        await server.asked();
        client.child.kill('SIGTERM');
        const { code, signal } = await client.ended;
        expect(signal).toBe(null);
        // A server that floods may be detected before the signal arrives.
        expect(how === 'options' ? [1, ...codes] : codes).toContain(code);
      }),
    );
  });

  it.each(commands.slice(0, 2))('farbus %s, while it reads', async (_name, args) => {
    await Promise.all(
      (['silence', 'trickle', 'chunks', 'status'] as const).map(async (how) => {
        const server = await start(how);
        const client = startFarbus(...args(server.uri, how));
        await server.asked();
        client.child.kill('SIGTERM');
        const { code, signal } = await client.ended;
        expect(signal).toBe(null);
        expect([1, 143]).toContain(code);
      }),
    );
  });

  it('farbus serve, with a client that reads', async () => {
    await Promise.all(
      (['silence', 'trickle', 'chunks'] as const).map(async (how) => {
        const server = await start(how);
        const gateway = startFarbus('serve', server.uri, '--listen', 'nbd://127.0.0.1:0');
        const [uri] = await gateway.printed(/nbd:\S+/);
        const reader = startFarbus('info', uri);
        await server.asked();
        gateway.child.kill('SIGTERM');
        const { code, signal } = await gateway.ended;
        expect([code, signal]).toEqual([0, null]);
        reader.child.kill('SIGTERM');
        await reader.ended;
      }),
    );
  });
});

it('farbus status gives up a control socket that sends a byte now and then', async () => {
  const path = join(tempFolder(), 'control.sock');
  const server = createServer((socket) => {
    const timer = setInterval(() => socket.write('x'), 50);
    socket.on('error', () => undefined);
    socket.on('close', () => clearInterval(timer));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const { code, stderr } = await farbus('status', '--socket', path);
  expect(code).toBe(1);
  expect(stderr).toMatch(/no answer within 2 s/);
  await new Promise((resolve) => server.close(resolve));
});
