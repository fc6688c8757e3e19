/**
 * The initiator's handshake with servers of every kind: agreements, refusals and their messages.
 */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { Option, OptionReply, TransmissionFlag } from '../../src/protocol/nbd/spec.js';
import { readBytes, writeBytes } from '../../src/conformance/subject.js';
import { FakeServer, optionReply, type FakeTerms } from '../support/nbd-fake-server.js';
import { memoryDialer } from '../support/stream-pair.js';
import { u16, u32, u64 } from '../support/numbers.js';

async function agreed(terms: Partial<FakeTerms>, exportName = 'disk') {
  const server = new FakeServer(terms);
  const device = await connectNbd(server.dialer(), { exportName });
  return { server, device };
}

async function refusal(server: FakeServer | ReturnType<FakeServer['dialer']>, connectSeconds = 10): Promise<string> {
  const dialer = server instanceof FakeServer ? server.dialer() : server;
  const error = await connectNbd(dialer, { exportName: 'disk', connectSeconds }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FarbusError);
  const { message } = error as FarbusError;
  expect(message).not.toMatch(/\p{Cc}/u);
  expect(message.length).toBeLessThan(500);
  return message;
}

describe('agreements', () => {
  test('everything that a modern server has', async () => {
    const { server, device } = await agreed({ state: 'boot-1', size: 3 << 20 });
    expect(server.last.options).toEqual([
      Option.extendedHeaders,
      Option.structuredReply,
      Option.setMetaContext,
      Option.go,
    ]);
    expect(server.last.exportName).toBe('disk');
    expect(server.last.session).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(device.info).toEqual({
      size: 3 << 20,
      tail: 0,
      blockSize: 512,
      preferredSize: 4096,
      maxTransfer: 1 << 25,
      readOnly: false,
      removable: false,
      rotational: false,
      identity: 'nbd:disk',
      can: { flush: true, fua: true, trim: true, writeZeroes: true, extents: true, multiConnection: false },
    });
    await device.close();
    expect(server.last.disconnected).toBe(true);
  });

  test('extended headers, which need no structured replies', async () => {
    const { server, device } = await agreed({ extended: true, structured: false });
    expect(server.last.options).toEqual([Option.extendedHeaders, Option.setMetaContext, Option.go]);
    const bytes = Uint8Array.from({ length: 100_000 - (100_000 % 512) }, (_, index) => index * 3);
    await writeBytes(device, 512, bytes);
    expect(await readBytes(device, 512, bytes.length)).toEqual(bytes);
    await device.flush();
    expect(await device.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, hole: false, zero: false }]);
    await device.close();
    expect(server.last.disconnected).toBe(true);
  });

  test('a server with extended headers and without NBD_OPT_GO breaks the protocol: the export cannot be entered', async () => {
    expect(await refusal(new FakeServer({ extended: true, go: false }))).toMatch(/refuses export "disk" with error 1/);
  });

  test('a server without structured replies', async () => {
    const { server, device } = await agreed({ structured: false });
    expect(server.last.options).toEqual([Option.extendedHeaders, Option.structuredReply, Option.go]);
    expect(device.info.can.extents).toBe(false);
    const bytes = Uint8Array.from({ length: 2048 }, (_, index) => index);
    await writeBytes(device, 512, bytes);
    expect(await readBytes(device, 512, 2048)).toEqual(bytes);
    await device.close();
  });

  test.each([0, 1, 2, 3])('servers without NBD_OPT_GO, handshake flags %i', async (handshake) => {
    const { server, device } = await agreed({ go: false, handshake, structured: (handshake & 1) !== 0 });
    expect(server.last.options.at(-1)).toBe(Option.exportName);
    if (!(handshake & 1)) expect(server.last.options).toEqual([Option.exportName]);
    expect(device.info.size).toBe(1 << 20);
    await writeBytes(device, 0, new Uint8Array(512).fill(9));
    expect(await readBytes(device, 0, 512)).toEqual(new Uint8Array(512).fill(9));
    await device.close();
  });

  test('read-only by the server, read-only by wish', async () => {
    const { device } = await agreed({ flags: TransmissionFlag.hasFlags | TransmissionFlag.readOnly });
    expect(device.info.readOnly).toBe(true);
    await device.close();
    const byWish = await connectNbd(new FakeServer().dialer(), { readOnly: true });
    expect(byWish.info.readOnly).toBe(true);
    await byWish.close();
  });

  test.each([
    [undefined, 1 << 20, 512, 1 << 20, 1 << 25],
    [undefined, 1000, 8, 1000, 1 << 25],
    [undefined, 1001, 1, 1001, 1 << 25],
    [[1, 4096, 0xffffffff], 1001, 1, 1001, 1 << 25],
    [[4096, 4096, 1 << 20], 10_000, 4096, 8192, 1 << 20],
    [[65536, 65536, 100_000], 1 << 20, 65536, 1 << 20, 65536],
    [[512, 0, 1 << 20], 1 << 20, 512, 1 << 20, 1 << 20],
  ] as const)('block sizes %j of %i bytes', async (blockSizes, bytes, blockSize, size, maxTransfer) => {
    const { device } = await agreed({ size: bytes, blockSizes });
    const { info } = device;
    expect([info.blockSize, info.size, info.maxTransfer]).toEqual([blockSize, size, maxTransfer]);
    expect(info.preferredSize % blockSize).toBe(0);
    await device.close();
  });
});

describe('refusals', () => {
  test.each([
    [[3, 4096, 1 << 20], /blocks of 3 bytes/],
    [[0, 4096, 1 << 20], /blocks of 0 bytes/],
    [[131072, 131072, 1 << 20], /blocks of 131072 bytes/],
    [[4096, 4096, 512], /512 bytes at most/],
  ] as const)('block sizes %j', async (blockSizes, message) => {
    expect(await refusal(new FakeServer({ blockSizes }))).toMatch(message);
  });

  test.each([
    [OptionReply.errUnknown, /no export "disk": check its name \(it says: a b c\)/],
    [OptionReply.errTlsRequired, /demands TLS: write nbds:.*a b c/],
    [OptionReply.errPolicy, /does not allow.*a b c/],
    [OptionReply.errShutdown, /takes no clients now.*a b c/],
    [OptionReply.errInvalid, /refuses export "disk" with error 3.*a b c/],
  ])('error %i to NBD_OPT_GO, with its text made harmless', async (type, message) => {
    const server = new FakeServer({ refuse: { [Option.go]: { type, text: 'a\u001b\nb\u202e c' } } });
    expect(await refusal(server)).toMatch(message);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(server.last.options.at(-1)).toBe(Option.abort);
    expect(server.last.stream.closed).toBe(true);
  });

  test('an unknown name: the server is asked for its list', async () => {
    const refuse = { [Option.go]: { type: OptionReply.errUnknown, text: 'no' } };
    const list = ['a', 'b\u001b[2J', 'c', 'd', 'e', 'f'];
    const server = new FakeServer({ refuse, list });
    expect(await refusal(server)).toMatch(/no export "disk": it has "a", "b \[2J", "c", "d", "e"$/);
    const many = Array.from({ length: 300 }, (_, index) => `${index}`);
    expect(await refusal(new FakeServer({ refuse, list: many }))).toMatch(/no export "disk": check its name/);
    expect(await refusal(new FakeServer({ refuse, list: [] }))).toMatch(/no export "disk": check its name/);
  });

  test('a server that cannot fence the session yet is not used without a fence', async () => {
    const refuse = { [Option.setMetaContext]: { type: OptionReply.errShutdown, text: 'busy' } };
    expect(await refusal(new FakeServer({ refuse }))).toMatch(/takes no clients now.*busy/);
  });

  test('errors of optional options are ignored', async () => {
    const error = { type: OptionReply.errPolicy, text: 'no' };
    const refuse = { [Option.setMetaContext]: error, [Option.structuredReply]: error, [Option.extendedHeaders]: error };
    const { device } = await agreed({ refuse, structured: false });
    expect(device.info.can.extents).toBe(false);
    await device.close();
  });

  const greeting = (bytes: Uint8Array, then: 'stay' | 'end' = 'stay') =>
    memoryDialer((stream) => {
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
      stream.write([bytes]);
      if (then === 'end') stream.end();
    });
  const hello = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)]);

  test.each([
    ['an HTTP server', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), /is that an NBD server/],
    ['oldstyle', Buffer.concat([Buffer.from('NBDMAGIC'), u64(0x420281861253n)]), /oldstyle/],
    ['a wrong second magic', Buffer.from('NBDMAGICIHAVEOPX'), /is that an NBD server/],
    ['garbage for option replies', Buffer.concat([hello, Buffer.alloc(64, 7)]), /not an option reply/],
    ['a reply to another option', Buffer.concat([hello, optionReply(3, 1, u16(0))]), /an option that was not sent/],
    [
      'an option reply without an end',
      Buffer.concat([hello, u64(0x3e889045565a9n), u32(11), u32(3), u32(1 << 30)]),
      /too long/,
    ],
    [
      'option replies without an end',
      Buffer.concat([hello, ...Array.from({ length: 300 }, () => optionReply(11, 3, u16(9)))]),
      /too many replies/,
    ],
  ])('%s', async (_what, bytes, message) => {
    expect(await refusal(greeting(bytes))).toMatch(message);
  });

  test('a server that hangs up, and one that sends nothing', async () => {
    expect(await refusal(greeting(hello, 'end'))).toMatch(/closed the connection/);
    expect(await refusal(greeting(new Uint8Array([0x4e]), 'stay'), 0.05)).toMatch(/no answer within 0.05 seconds/);
  });

  test('an export of more than 2^53 bytes', async () => {
    const server = new FakeServer();
    server.terms.size = 2 ** 60;
    expect(await refusal(server)).toMatch(/more than 2\^53/);
  });

  test('an agreement without the facts of the export, and unexpected bytes', async () => {
    const dialer = memoryDialer((stream) => {
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
      stream.write([
        Buffer.concat([
          hello,
          optionReply(11, OptionReply.errUnsupported, new Uint8Array(0)),
          optionReply(8, OptionReply.errUnsupported, new Uint8Array(0)),
          optionReply(7, 1, new Uint8Array(0)),
        ]),
      ]);
    });
    expect(await refusal(dialer)).toMatch(/without the facts/);
    const info = optionReply(7, OptionReply.info, Buffer.concat([u16(0), u64(4096n), u16(1)]));
    const chatty = memoryDialer((stream) => {
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
      const styles = [11, 8].map((option) => optionReply(option, OptionReply.errUnsupported, new Uint8Array(0)));
      stream.write([Buffer.concat([hello, ...styles, info, optionReply(7, 1, new Uint8Array(0)), u16(1)])]);
    });
    expect(await refusal(chatty)).toMatch(/before it was asked/);
  });

  test('impossible times', async () => {
    for (const options of [{ reconnectSeconds: -1 }, { connectSeconds: 0 }, { stallSeconds: Number.NaN }]) {
      await expect(connectNbd(new FakeServer().dialer(), options)).rejects.toBeInstanceOf(FarbusError);
    }
  });
});

test('any chunking of the whole conversation', async () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 50 });
  await fc.assert(
    fc.asyncProperty(cuts, fc.boolean(), fc.boolean(), fc.boolean(), async (pieces, structured, go, wide) => {
      let next = 0;
      const server = new FakeServer({ structured, go, extended: wide && go, state: 'x' });
      const device = await connectNbd(server.dialer(() => pieces[next++ % pieces.length]!));
      const bytes = Uint8Array.from({ length: 1536 }, (_, index) => index * 7);
      await writeBytes(device, 1024, bytes);
      expect(await readBytes(device, 1024, bytes.length)).toEqual(bytes);
      await device.flush();
      await device.extents(0, 4096);
      await device.close();
      expect(server.last.disconnected).toBe(true);
    }),
    { numRuns: 50 },
  );
});
