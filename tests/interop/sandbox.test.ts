/** The sandbox of QEMU's programs: the access that a compromised program would still have. */
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { findProgram, sandboxKind, spawnInSandbox } from '../../src/protocol/qemu/sandbox/sandbox.node.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';

const none = missing('qemu-io') || missing('qemu-img') || process.platform !== 'linux';

/** A server that counts its connections. */
async function listening(place: string | 0): Promise<{ server: Server; connections: () => number }> {
  let connections = 0;
  const server = createServer((socket) => (connections++, socket.destroy()));
  server.listen(place === 0 ? { host: '127.0.0.1', port: 0 } : { path: place });
  await once(server, 'listening');
  return { server, connections: () => connections };
}

/**
 * Runs a program with one writable file as descriptor 3. Resolves with its exit status and stderr.
 */
async function runConfined(
  file: string,
  program: string,
  ...args: string[]
): Promise<{ code: number; stderr: string }> {
  const fd = openSync(file, 'r+');
  const child = spawnInSandbox(findProgram(program)!, args, { files: [{ fd, writable: true, isDevice: false }] });
  let stderr = '';
  child.stderr!.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  closeSync(fd);
  return { code, stderr };
}

describe.skipIf(none)('a program in the sandbox', () => {
  afterEach(() => void delete process.env['FARBUS_NO_SANDBOX']);

  /** Tries every kind of access. True for those that succeeded. */
  async function attempts(): Promise<Record<string, boolean>> {
    const folder = tempFolder();
    const at = (name: string): string => join(folder, name);
    for (const name of ['given', 'secret']) writeFileSync(at(name), Buffer.alloc(65_536, 0x61));
    const io = async (command: string, path: string): Promise<boolean> =>
      (await runConfined(at('given'), 'qemu-io', '-f', 'raw', '-c', command, path)).code === 0;
    const tcp = await listening(0);
    const unix = await listening(at('listener'));
    const { port } = tcp.server.address() as { port: number };
    const result = {
      'reads its file': await io('read -P 0x61 0 4096', '/proc/self/fd/3'),
      'writes its file': await io('write -P 0x62 0 4096', '/proc/self/fd/3'),
      'reads another file': await io('read 0 512', at('secret')),
      'writes another file': await io('write 0 512', at('secret')),
      'makes a file': (await runConfined(at('given'), 'qemu-img', 'create', '-f', 'raw', at('new'), '1M')).code === 0,
      'connects by TCP': (await io('read 0 1', `nbd://127.0.0.1:${port}`)) || tcp.connections() > 0,
      'connects to a unix socket':
        (await io('read 0 1', `nbd+unix:///?socket=${at('listener')}`)) || unix.connections() > 0,
      'starts a shell that reads another file':
        (await runConfined(at('given'), 'sh', '-c', `test -n "$(cat ${at('secret')})"`)).code === 0,
      'truncates another file': (await runConfined(at('given'), 'sh', '-c', `: > ${at('secret')}`)).code === 0,
    };
    expect(readFileSync(at('given'))[0]).toBe(0x62);
    tcp.server.close();
    unix.server.close();
    return result;
  }

  it.skipIf(sandboxKind() === 'none')('reaches its own file and nothing else', async () => {
    const could = Object.entries(await attempts()).filter(([, done]) => done);
    expect(could.map(([what]) => what)).toEqual(['reads its file', 'writes its file']);
  });

  it('reaches everything where the sandbox is turned off: the test can fail', async () => {
    process.env['FARBUS_NO_SANDBOX'] = '1';
    expect(Object.values(await attempts()).every((done) => done)).toBe(true);
  });
});
