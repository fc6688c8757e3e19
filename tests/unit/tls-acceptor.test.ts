/**
 * One TLS server for many streams: the result of each handshake goes to the stream that it belongs
 * to.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listenOn, type SocketListener } from '../../src/network/listen.node.js';
import type { Secure } from '../../src/network/stream.js';
import { serverCertificates } from '../../src/network/tls-files.node.js';
import { tlsServer } from '../../src/network/tls.node.js';
import { authority, noOpenssl, type Authority } from '../support/tls-certificates.js';

let pki: Authority;
let secure: Secure;
let listener: SocketListener;
/** The result of each handshake, by the client's port. */
const outcomes = new Map<string, Promise<readonly string[] | Error>>();
const open = new Set<{ destroy(): void }>();

beforeAll(async () => {
  if (noOpenssl()) return;
  pki = authority();
  secure = tlsServer({ credentials: await serverCertificates(pki.folder, true), verifyPeer: true });
  listener = await listenOn(
    { host: '127.0.0.1', port: 0 },
    (stream) => {
      const outcome = secure(stream, new AbortController().signal).then(
        (secured) => {
          open.add(secured.stream);
          return secured.names;
        },
        (error: unknown) => error as Error,
      );
      outcomes.set(stream.peer, outcome);
    },
    () => undefined,
  );
});

afterAll(async () => {
  for (const one of open) one.destroy();
  await listener?.close();
});

async function dial(): Promise<Socket> {
  const { host, port } = listener.at as { host: string; port: number };
  const socket = connect({ host, port });
  socket.on('error', () => undefined);
  open.add(socket);
  await once(socket, 'connect');
  return socket;
}

async function outcomeOf({ localPort }: Socket): Promise<readonly string[] | Error> {
  for (;;) {
    const outcome = outcomes.get(`127.0.0.1:${localPort}`);
    if (outcome) return outcome;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Options for a client: its certificate, and the CA. */
function options(folder: string): ConnectionOptions {
  const text = (name: string): Buffer => readFileSync(join(folder, name));
  return {
    ca: text('ca-cert.pem'),
    cert: text('client-cert.pem'),
    key: text('client-key.pem'),
    servername: 'localhost',
  };
}

describe.skipIf(noOpenssl())('handshakes side by side', () => {
  it('end separately for each client: with its names, without a certificate, with bytes that are not TLS', async () => {
    const people = ['ann', 'ben', 'cleo'].map((name) => ({ name, options: options(pki.clientFolder(name)) }));
    const work = Array.from({ length: 30 }, async (_, index) => {
      const socket = await dial();
      if (index % 5 === 3) {
        socket.write('GET / HTTP/1.1\r\n\r\n');
        return expect(await outcomeOf(socket)).toBeInstanceOf(Error);
      }
      const { name, options: own } = people[index % 3]!;
      const { ca, servername } = own;
      const stranger = index % 5 === 4;
      const tls = connectTls({ ...(stranger ? { ca, servername } : own), socket });
      tls.on('error', () => undefined);
      const outcome = await outcomeOf(socket);
      if (stranger) expect(outcome).toBeInstanceOf(Error);
      else expect(outcome).toEqual([name]);
    });
    await Promise.all(work);
  });

  it('may be followed by the end of the connection in the same round of the event loop', async () => {
    const socket = await dial();
    const tls = connectTls({ ...options(pki.clientFolder('eve')), socket });
    tls.on('error', () => undefined);
    for (;;) {
      const begun = outcomes.get(`127.0.0.1:${socket.localPort}`);
      if (begun) {
        // This runs in the microtask that reports the end of the handshake: Node is still inside
        // it.
        await begun.then(() => [...open].at(-1)!.destroy());
        break;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await once(tls, 'close');
  });

  it('do not resume the session of another connection', async () => {
    const own = options(pki.clientFolder('dora'));
    const begin = async (session?: Buffer): Promise<TLSSocket> => {
      const socket = await dial();
      const tls = connectTls({ ...own, socket, ...(session && { session }) });
      await once(tls, 'secureConnect');
      expect(await outcomeOf(socket)).toEqual(['dora']);
      return tls;
    };
    const first = await begin();
    const second = await begin(first.getSession());
    expect(second.isSessionReused()).toBe(false);
  });
});
