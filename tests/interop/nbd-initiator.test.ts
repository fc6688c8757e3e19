/** The NBD initiator with real servers: the conformance suite, errors and refusals. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { silent, ThrottledLogger } from '../../src/base/log.js';
import { Exports } from '../../src/export/exports.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { NbdTarget } from '../../src/protocol/nbd/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { conformance, type Opened } from '../conformance/suite.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import {
  farbusServe,
  freePort,
  freeSocket,
  missing,
  nbdkit,
  qemuNbd,
  type NbdPeer,
  type Place,
} from '../support/nbd-peers.js';
import { memoryDialer } from '../support/stream-pair.js';
import { tempPath, tempImage } from '../support/temp.js';

const size = 8 << 20;

/** Like {@link opened}, over four connections. */
async function openedBySeveral(peer: Promise<NbdPeer>): Promise<Opened> {
  const server = await peer;
  return { device: await openNbd(server.uri, { connections: 4 }), cleanup: () => server.kill() };
}

/** Starts a server and opens its export. */
async function opened(peer: Promise<NbdPeer>): Promise<Opened> {
  const server = await peer;
  return { device: await openNbd(server.uri), cleanup: () => server.kill() };
}

describe.skipIf(missing('nbdkit'))('nbdkit', () => {
  const memory = ['memory', `${size}`];
  conformance('nbdkit memory, unix socket', () => opened(nbdkit(freeSocket(), memory)), {
    openReadOnly: () => opened(nbdkit(freeSocket(), ['-r', ...memory])),
  });
  const file = tempImage(size);
  conformance('nbdkit file, TCP', async () => opened(nbdkit(await freePort(), ['file', file])), { persistent: true });
  conformance('nbdkit without structured replies', () => opened(nbdkit(freeSocket(), ['--no-sr', ...memory])));
  conformance('nbdkit, four connections', () => openedBySeveral(nbdkit(freeSocket(), ['file', tempImage(size)])));
  const bare = ['--filter=nozero', '--filter=noextents', '--filter=nocache'];
  conformance('nbdkit with little that it can', () => opened(nbdkit(freeSocket(), [...bare, ...memory])));
  const strict = ['blocksize-minimum=4096', 'blocksize-preferred=64K', 'blocksize-maximum=128K'];
  conformance('nbdkit with strict block sizes', () =>
    opened(nbdkit(freeSocket(), ['--filter=blocksize-policy', ...memory, ...strict, 'blocksize-error-policy=error'])),
  );
  const delays = ['delay-read=2ms', 'delay-write=1ms', 'delay-zero=3ms', 'delay-trim=1ms', 'delay-extents=1ms'];
  conformance('nbdkit with delays', () => opened(nbdkit(freeSocket(), ['--filter=delay', ...memory, ...delays])), {
    steps: 100,
    region: 512 << 10,
  });

  async function withServer<T>(args: readonly string[], use: (server: NbdPeer) => Promise<T>): Promise<T> {
    const server = await nbdkit(freeSocket(), args);
    try {
      return await use(server);
    } finally {
      await server.kill();
    }
  }

  test('no space left, and errors of the medium, reach the caller', async () => {
    const errors = ['--filter=error', 'memory', '1M'];
    await withServer([...errors, 'error=ENOSPC', 'error-pwrite-rate=100%', 'error-zero-rate=100%'], async ({ uri }) => {
      const device = await openNbd(uri);
      await expectKind('no-space', writeBytes(device, 0, new Uint8Array(4096)));
      await expectKind('no-space', device.writeZeroes(0, 4096));
      await readBytes(device, 0, 4096);
      await device.close();
    });
    await withServer([...errors, 'error=EIO', 'error-pread-rate=100%'], async ({ uri }) => {
      const device = await openNbd(uri);
      await expectKind('io', readBytes(device, 0, 4096));
      await writeBytes(device, 0, new Uint8Array(4096));
      await device.close();
    });
  });

  test('occasional errors among many concurrent requests reach only their own requests', async () => {
    const args = ['--filter=error', 'memory', '4M', 'error=EIO', 'error-pread-rate=30%'];
    await withServer(args, async ({ uri }) => {
      const device = await openNbd(uri);
      const block = (index: number): Uint8Array => new Uint8Array(4096).fill(index);
      await Promise.all(Array.from({ length: 200 }, (_, index) => writeBytes(device, index * 4096, block(index))));
      const reads = Array.from({ length: 200 }, (_, index) => readBytes(device, index * 4096, 4096));
      let failed = 0;
      for (const [index, result] of (await Promise.allSettled(reads)).entries()) {
        if (result.status === 'fulfilled') expect(result.value).toEqual(block(index));
        else failed++;
      }
      expect(failed).toBeGreaterThan(0);
      expect(failed).toBeLessThan(200);
      await device.close();
    });
  });

  test('an export that is not there', async () => {
    const names = ['--filter=exportname', 'memory', '1M', 'exportname-strict=true', 'exportname=disk'];
    await withServer(names, async (server) => {
      const uri = server.uri.replace('///?', '///none?');
      await expect(openNbd(uri)).rejects.toThrow(/nbd\+unix:\/\/\/none.*no export "none"|closed the connection/);
      await (await openNbd(server.uri.replace('///?', '///disk?'))).close();
    });
  });

  test('a server that demands TLS', async () => {
    const keys = tempPath('keys.psk');
    writeFileSync(keys, `user:${'00'.repeat(32)}\n`);
    await withServer(['--tls=require', `--tls-psk=${keys}`, 'memory', '1M'], async ({ uri }) => {
      await expect(openNbd(uri)).rejects.toThrow(/demands TLS: write nbds:/);
    });
  });

  test('scattered holes come as extents', async () => {
    const path = tempImage(size);
    await withServer(['file', path], async ({ uri }) => {
      const device = await openNbd(uri);
      await writeBytes(device, 1 << 20, new Uint8Array(65536).fill(1));
      const extents = [];
      for (let at = 0; at < size;) {
        const some = await device.extents(at, size - at);
        extents.push(...some);
        at = some.at(-1)!.offset + some.at(-1)!.length;
      }
      expect(extents).toEqual([
        { offset: 0, length: 1 << 20, hole: true, zero: true },
        { offset: 1 << 20, length: 65536, hole: false, zero: false },
        { offset: (1 << 20) + 65536, length: size - (1 << 20) - 65536, hole: true, zero: true },
      ]);
      await device.close();
    });
  });
});

describe.skipIf(missing('qemu-nbd'))('qemu-nbd', () => {
  const file = tempImage(size);
  conformance('qemu-nbd, unix socket', () => opened(qemuNbd(freeSocket(), tempImage(size))), {
    openReadOnly: () => opened(qemuNbd(freeSocket(), tempImage(size), ['--read-only'])),
  });
  conformance('qemu-nbd, TCP', async () => opened(qemuNbd(await freePort(), file)), { persistent: true });

  conformance('qemu-nbd, four connections', () => openedBySeveral(qemuNbd(freeSocket(), tempImage(size))));

  test('an export that is not there', async () => {
    const server = await qemuNbd(freeSocket(), tempImage(size));
    await expect(openNbd(server.uri.replace('///disk', '///other'))).rejects.toThrow(/no export "other"/);
    await server.kill();
  });
});

describe('farbus serve', () => {
  const serve = (place: Place, path: string, ...options: string[]): Promise<Opened> =>
    opened(farbusServe(place, 'disk', [`disk=${path}`, ...options]));
  const file = tempImage(size);
  conformance('farbus serve, unix socket', () => serve(freeSocket(), file), {
    persistent: true,
    openReadOnly: () => serve(freeSocket(), file, '--read-only'),
  });
  conformance('farbus serve, TCP', async () => serve(await freePort(), tempImage(size)));
  conformance('farbus serve, four connections', () =>
    openedBySeveral(farbusServe(freeSocket(), 'disk', [`disk=${tempImage(size)}`])),
  );

  /** Sets a variable for the server, and for our end while the connection is made. */
  async function serveWith(variable: string, place: Place): Promise<Opened> {
    process.env[variable] = '1';
    try {
      return await serve(place, tempImage(size));
    } finally {
      delete process.env[variable];
    }
  }
  for (const variable of ['FARBUS_NO_EAGER', 'FARBUS_NO_KOFFI']) {
    conformance(`farbus serve, unix socket, ${variable}`, () => serveWith(variable, freeSocket()));
    conformance(`farbus serve, TCP, ${variable}`, async () => serveWith(variable, await freePort()));
  }

  test('flushed data is in the file', async () => {
    const path = tempImage(size);
    const { device, cleanup } = await serve(freeSocket(), path);
    const bytes = Uint8Array.from({ length: 65536 }, (_, index) => index * 31);
    await writeBytes(device, 4096, bytes);
    await device.flush();
    expect(Buffer.compare(readFileSync(path).subarray(4096, 4096 + bytes.length), bytes)).toBe(0);
    await device.close();
    await cleanup?.();
  });
});

describe('the target in the same process', () => {
  function inProcess(cut?: (length: number) => number): () => Promise<Opened> {
    return async () => {
      const exports = new Exports('this life');
      exports.add({ name: 'disk', device: new MemoryDevice(size) });
      const context = { exports, pool: new SlabPool(), log: new ThrottledLogger(silent) };
      const dialer = memoryDialer((stream) => void new NbdTarget(stream, context), cut);
      const device = await connectNbd(dialer, { exportName: 'disk' });
      return { device, cleanup: () => exports.close() };
    };
  }
  conformance('the target in memory', inProcess());
  let turn = 0;
  conformance(
    'the target in memory, in pieces of odd lengths',
    inProcess(() => [1, 7, 28, 29, 4096, 65536][turn++ % 6]!),
    { region: 256 << 10, steps: 100 },
  );
});

describe('a peer that is no NBD server', () => {
  test('a port without a listener', async () => {
    const { port } = await freePort();
    await expect(openNbd(`nbd://127.0.0.1:${port}/`)).rejects.toThrow(/127\.0\.0\.1.*refused/);
    await expect(openNbd(`nbd+unix:///?socket=${freeSocket().path}`)).rejects.toBeInstanceOf(FarbusError);
  });

  test('a web server', async () => {
    const http = createHttpServer();
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const { port } = http.address() as AddressInfo;
    // This server waits for the client to speak first, which an NBD server does not do.
    await expect(openNbd(`nbd://127.0.0.1:${port}/`, { connectSeconds: 0.5 })).rejects.toThrow(/is that an NBD server/);
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
});
