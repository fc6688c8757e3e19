/**
 * The initiator and NBD_OPT_STARTTLS: it sends nothing without TLS, trusts nothing from before TLS,
 * and works with our target.
 */
import { readFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { silent, ThrottledLogger } from '../../src/base/log.js';
import { presharedKeys, clientCertificates, serverCertificates } from '../../src/network/tls-files.node.js';
import { tlsClient, tlsServer, type TlsCredentials } from '../../src/network/tls.node.js';
import type { Secure } from '../../src/network/stream.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { Option, OptionReply } from '../../src/protocol/nbd/spec.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { NbdTarget } from '../../src/protocol/nbd/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { readBytes, writeBytes } from '../../src/conformance/subject.js';
import { join, optionReply } from '../support/nbd-fake-server.js';
import { memoryDialer, type Cut, type MemoryStream } from '../support/stream-pair.js';
import { authority, keyFile, noOpenssl, type Authority } from '../support/tls-certificates.js';
import { exportsOf } from './nbd-target-peer.js';
import { u16, u64 } from '../support/numbers.js';

const none = new Uint8Array(0);
const hello = (flags: number) => join(u64(0x4e42444d41474943n), u64(0x49484156454f5054n), u16(flags));

/**
 * A server that answers the client's first option with these bytes. `heard` contains what it
 * received.
 */
function answering(flags: number, answer: Uint8Array) {
  const heard: number[] = [];
  const streams: MemoryStream[] = [];
  const dialer = memoryDialer((stream) => {
    streams.push(stream);
    let answered = false;
    stream.attach({
      data: (chunk) => {
        heard.push(...chunk);
        if (heard.length < 20 || answered) return;
        answered = true;
        stream.write([answer]);
      },
      drain: () => undefined,
      closed: () => undefined,
    });
    stream.write([hello(flags)]);
  });
  return { dialer, heard, streams };
}

const starttls = Option.starttls;
const noTls: Secure = () => Promise.reject(new Error('TLS was begun'));

describe('before TLS', () => {
  it.each([
    ['a server without fixed newstyle', 0, none, /has no TLS/],
    ['one that does not know the option', 3, optionReply(starttls, OptionReply.errUnsupported, none), /refuses TLS/],
    ['one whose policy forbids it', 3, optionReply(starttls, OptionReply.errPolicy, none), /refuses TLS/],
    ['an answer to another option', 3, optionReply(Option.go, OptionReply.ack, none), /option that was not sent/],
    [
      'an option reply behind the acknowledgement',
      3,
      join(optionReply(starttls, OptionReply.ack, none), optionReply(Option.structuredReply, OptionReply.ack, none)),
      /sent something before it was asked/,
    ],
    ['one byte behind it', 3, join(optionReply(starttls, OptionReply.ack, none), u16(9)), /before it was asked/],
  ])('%s is not spoken to any further', async (_what, flags, answer, message) => {
    const { dialer, heard } = answering(flags, answer);
    await expect(connectNbd(dialer, { secure: noTls, connectSeconds: 0.5 })).rejects.toThrow(message);
    const said = Buffer.from(heard).toString('latin1');
    // The client's flags, NBD_OPT_STARTTLS and perhaps NBD_OPT_ABORT: nothing about exports or
    // sessions.
    expect(said.length).toBeLessThanOrEqual(4 + 16 + 16);
    expect(said).not.toMatch(/farbus/);
  });
});

const bytes = Uint8Array.from({ length: 300_032 }, (_, index) => (index * 7) >> 2);

describe.skipIf(noOpenssl())('TLS over any byte stream', () => {
  let pki: Authority;
  let keys: TlsCredentials;
  beforeAll(async () => {
    pki = authority();
    keys = await presharedKeys(keyFile('alice'));
  });

  /** A target over TLS on memory streams. */
  function serving(credentials: TlsCredentials, verifyPeer: boolean, cut?: Cut) {
    const secure = tlsServer({ credentials, verifyPeer });
    const exports = exportsOf({ disk: new MemoryDevice(1 << 20) });
    const proved: (readonly string[])[] = [];
    const directory = {
      find: (name: string) => exports.find(name),
      list: () => exports.list(),
      identify: (_client: string, names: readonly string[]) => void proved.push(names),
    };
    const tls = { mode: 'require' as const, secure };
    const context = { exports: directory, pool: new SlabPool(), log: new ThrottledLogger(silent), tls };
    const streams: MemoryStream[] = [];
    const dialer = memoryDialer((stream) => {
      streams.push(stream);
      new NbdTarget(stream, context);
    }, cut);
    return { dialer, proved, streams };
  }

  it.each([1, 100, 65536])('in pieces of %i bytes', async (most) => {
    const { dialer, proved } = serving(await serverCertificates(pki.folder, true), true, () => most);
    const credentials = await clientCertificates(pki.folder, true);
    const secure = tlsClient({ credentials, hostname: 'localhost', verifyPeer: true, username: '' });
    const device = await connectNbd(dialer, { exportName: 'disk', secure });
    const part = most === 1 ? bytes.subarray(0, 2048) : bytes;
    await writeBytes(device, 0, part);
    expect(Buffer.compare(await readBytes(device, 0, part.length), part)).toBe(0);
    expect(proved).toEqual([['alice', 'alice.example', 'alice@example.org']]);
    await device.close();
  });

  it('with keys; and again after the connection was lost', async () => {
    const { dialer, proved, streams } = serving(keys, false);
    const secure = tlsClient({ credentials: keys, hostname: undefined, verifyPeer: true, username: 'alice' });
    const device = await connectNbd(dialer, { exportName: 'disk', secure });
    await writeBytes(device, 0, bytes);
    streams[0]!.destroy();
    expect(Buffer.compare(await readBytes(device, 0, bytes.length), bytes)).toBe(0);
    expect(proved).toEqual([['alice'], ['alice']]);
    await device.close();
  });

  it('bytes that are not TLS end the connection at once, and its requests are run again on the next', async () => {
    const { dialer, streams } = serving(keys, false);
    const secure = tlsClient({ credentials: keys, hostname: undefined, verifyPeer: true, username: 'alice' });
    const device = await connectNbd(dialer, { exportName: 'disk', secure });
    await writeBytes(device, 0, bytes);
    streams[0]!.write([new Uint8Array(100).fill(0x49)]);
    expect(Buffer.compare(await readBytes(device, 0, bytes.length), bytes)).toBe(0);
    expect(streams).toHaveLength(2);
    await device.close();
  });

  it('a server with a certificate is not accepted in place of one with the key', async () => {
    const { dialer } = serving(await serverCertificates(pki.folder, false), false);
    const secure = tlsClient({ credentials: keys, hostname: undefined, verifyPeer: true, username: 'alice' });
    await expect(connectNbd(dialer, { secure })).rejects.toThrow(/TLS failed: the server shows a certificate in place/);
  });

  it('a certificate that was altered, or has another name or another signer', async () => {
    const credentials = await clientCertificates(pki.clientFolder(), true);
    const secure = tlsClient({ credentials, hostname: 'localhost', verifyPeer: true, username: '' });
    for (const folder of [pki.serverFolder('DNS:other'), authority().folder]) {
      const { dialer } = serving(await serverCertificates(folder, false), false);
      await expect(connectNbd(dialer, { secure })).rejects.toThrow(/TLS failed/);
    }
    const certificate = readFileSync(path(pki.folder, 'server-cert.pem'), 'utf8');
    const key = readFileSync(path(authority().folder, 'server-key.pem'), 'utf8');
    expect(() => tlsServer({ credentials: { kind: 'x509', own: { certificate, key } }, verifyPeer: false })).toThrow(
      /not usable/,
    );
  });

  it('a far side that does not speak TLS after all', async () => {
    const { dialer } = answering(3, optionReply(starttls, OptionReply.ack, none));
    const credentials = await clientCertificates(pki.clientFolder(), true);
    const secure = tlsClient({ credentials, hostname: 'localhost', verifyPeer: true, username: '' });
    await expect(connectNbd(dialer, { secure, connectSeconds: 0.3 })).rejects.toThrow(/no answer within/);
  });
});
