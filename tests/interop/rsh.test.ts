/**
 * Disks over rsh, with a real rsh server: the conformance suite in both forms, and properties of
 * the protocol.
 */
import { readFileSync, truncateSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { rshRun, rshStream } from '../../src/network/rsh.node.js';
import { openRsh } from '../../src/protocol/rsh/open.node.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectSame, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { conformance } from '../conformance/suite.js';
import { freePort } from '../support/nbd-peers.js';
import { cannotRshd, Rshd } from '../support/rshd.js';
import { tempImage } from '../support/temp.js';

const never = new AbortController().signal;

async function refusal(opening: Promise<unknown>): Promise<string> {
  const error: unknown = await opening.then(
    () => new Error('it was opened'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FarbusError);
  return (error as FarbusError).message;
}

describe.skipIf(cannotRshd() !== undefined)('rsh', () => {
  let server: Rshd;
  beforeAll(async () => {
    server = await Rshd.start();
  });
  const uri = (path: string, query = ''): string => `rsh://127.0.0.1:${server.port}${path}${query}`;

  const disk = tempImage(4 << 20);
  conformance('rsh, kept session', async () => ({ device: await openRsh(uri(disk)) }), {
    persistent: true,
    steps: 100,
    openReadOnly: async () => ({ device: await openRsh(uri(disk), { readOnly: true }) }),
  });

  test('the user is warned that rsh has no encryption and no password', async () => {
    const said: string[] = [];
    const device = await openRsh(uri(disk), { log: { log: (_, line) => said.push(line) } });
    await device.close();
    expect(said.join('\n')).toMatch(/encrypts nothing and asks for no password/);
  });

  test('the literal form: one command for each request, as in the original', async () => {
    const content = new Random(5).bytes(1 << 20);
    const path = tempImage(content);
    const device = await openRsh(uri(path, '?literal=1'));
    await expectBytes(device, 0, content);
    await expectBytes(device, 512, content.subarray(512, 1536));
    const bytes = new Random(6).bytes(100 << 10);
    await Promise.all([writeBytes(device, 4096, bytes), writeBytes(device, 512 << 10, bytes)]);
    await device.flush();
    await expectBytes(device, 4096, bytes);
    truncateSync(path, 512 << 10);
    await expect(readBytes(device, 768 << 10, 4096)).rejects.toThrow(/ended too early/);
    expectSame(new Uint8Array(readFileSync(path)).subarray(4096, 4096 + bytes.length), bytes, 'in the file');
    await device.close();
  });

  test('standard output and standard error come apart, and the input ends', async () => {
    const target = { host: '127.0.0.1', port: server.port, address: 'test' };
    const input = new Random(1).bytes(300_000);
    const result = await rshRun(target, 'cat; echo problem >&2', { input, most: input.length, signal: never });
    expectSame(result.output, input, 'output');
    expect(result.errors).toBe('problem\n');
    await expect(rshRun(target, 'echo much', { most: 2, signal: never })).rejects.toThrow(
      /more came than was asked for/,
    );
  });

  test('processes of a cut session are ended before its write is repeated', async () => {
    const path = tempImage(4 << 20);
    const device = await openRsh(uri(path, '?sessions=1'));
    await readBytes(device, 0, 512);
    const old = server.descendants();
    for (const pid of old) process.kill(pid, 'SIGSTOP');
    const first = new Random(1).bytes(65536);
    const write = writeBytes(device, 0, first);
    // The stopped shell cannot notice anything. It ends only because its session is given up here.
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const pid of old) process.kill(pid, 'SIGKILL');
    await write;
    await expectBytes(device, 0, first);
    await device.close();
  });

  test('a server that does not know this user', async () => {
    server.forget();
    expect(await refusal(openRsh(uri(disk)))).toMatch(/the login there ended at once.*\.rhosts/);
    expect(await refusal(openRsh(uri(disk, '?literal=1')))).toMatch(/the login there ended at once.*\.rhosts/);
    await server.stop();
    await server.start();
  });

  test('no server', async () => {
    const { port } = await freePort();
    expect(await refusal(openRsh(`rsh://127.0.0.1:${port}/dev/sdb`))).toMatch(/connection refused/);
    expect(await refusal(openRsh('rsh://nowhere.invalid/dev/sdb'))).toMatch(/no such host/);
  });
});

describe.skipIf(process.getuid?.() !== 0)('rsh, the protocol', () => {
  const servers: { close(): void }[] = [];
  afterAll(() => servers.forEach((server) => server.close()));
  /** A server that handles each connection as the test says. */
  async function fake(serve: (socket: Socket) => void): Promise<{ host: string; port: number; address: string }> {
    const server = createServer(serve).listen(0, '127.0.0.1');
    servers.push(server);
    await new Promise((resolve) => server.once('listening', resolve));
    return { host: '127.0.0.1', port: (server.address() as AddressInfo).port, address: 'rsh://test/x' };
  }

  test('it connects from a privileged port and sends the bytes that rcmd sends', async () => {
    let seen: { port: number; text: string } | undefined;
    const target = await fake((socket) => {
      socket.on('data', (chunk) => {
        seen = { port: socket.remotePort!, text: chunk.toString() };
        socket.end('\0hello');
      });
    });
    const stream = await rshStream({ ...target, user: 'me' }, 'echo a b', never);
    const got = await new Promise<string>((resolve) => {
      let text = '';
      stream.attach({
        data: (chunk) => (text += new TextDecoder().decode(chunk)),
        drain: () => undefined,
        closed: () => resolve(text),
      });
      setTimeout(() => stream.end(), 200);
    });
    expect(got).toBe('hello');
    expect(seen!.port).toBeGreaterThanOrEqual(512);
    expect(seen!.port).toBeLessThan(1024);
    expect(seen!.text).toMatch(/^0\0[^\0]+\0me\0echo a b\0$/);
  });

  test('a refusal in the data stream, a server that hangs up, and one that sends nonsense', async () => {
    const refuses = await fake((socket) => socket.end('\x01Permission denied.\n'));
    expect(await refusal(rshStream(refuses, 'x', never))).toMatch(/says: Permission denied\./);
    const hangsUp = await fake((socket) => socket.end());
    expect(await refusal(rshStream(hangsUp, 'x', never))).toMatch(/hung up/);
    const endless = await fake((socket) => {
      socket.on('error', () => undefined);
      socket.write('x'.repeat(100_000));
    });
    expect((await refusal(rshStream(endless, 'x', never))).length).toBeLessThan(400);
  });

  test('a command with NUL is not sent', async () => {
    const target = await fake((socket) => socket.on('data', () => socket.end('\0')));
    expect(await refusal(rshStream(target, 'a\0b', never))).toMatch(/NUL/);
  });
});
