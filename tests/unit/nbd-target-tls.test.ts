/**
 * NBD_OPT_STARTTLS in the target, byte by byte ([NBD] "TLS support"): the answers before TLS; that
 * nothing sent before TLS counts after it; and that an attacker in between can neither strip TLS
 * nor inject requests. The tests take the place of TLS itself.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { silent, ThrottledLogger } from '../../src/base/log.js';
import type { ByteStream, SecuredStream } from '../../src/network/stream.js';
import { Option, OptionReply } from '../../src/protocol/nbd/spec.js';
import type { TargetExport } from '../../src/protocol/nbd/target/export.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { NbdTarget } from '../../src/protocol/nbd/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, infoData, join, metaData, optionBytes, Peer, TestStream } from './nbd-target-peer.js';
import { nextIteration } from '../support/event-loop.js';
import { u32 } from '../support/numbers.js';

const session = 'farbus:session/01234567-89ab-4def-8123-456789abcdef';

/**
 * A target whose TLS is played by the test. `upgrades` are the TLS handshakes that it has begun.
 */
class TlsPeer extends Peer {
  override readonly target: NbdTarget;
  readonly upgrades: {
    stream: ByteStream;
    signal: AbortSignal;
    finish: (secured: SecuredStream) => void;
    fail: (error: Error) => void;
  }[] = [];
  readonly identified: string[] = [];

  constructor(mode: 'on' | 'require', tlsOnly = false, handshakeMs = 30_000) {
    const stream = new TestStream();
    const exports = exportsOf({ disk: new MemoryDevice(1 << 20), other: new MemoryDevice(1 << 20) });
    super(exports);
    this.stream = stream;
    const seen = (of: TargetExport): TargetExport => {
      const { name, description, readOnly, device, sessions, counters } = of;
      return { name, description, readOnly, device, sessions, counters, tlsOnly: tlsOnly && name === 'disk' };
    };
    const directory = {
      find: (name: string) => {
        const found = exports.find(name);
        return found && seen(found);
      },
      list: () => [...exports.list()].map(seen),
      identify: (client: string) => void this.identified.push(client),
    };
    this.target = new NbdTarget(stream, {
      exports: directory,
      pool: new SlabPool(),
      log: new ThrottledLogger(silent),
      limits: { handshakeMs },
      tls: {
        mode,
        secure: (raw, signal) =>
          new Promise((finish, fail) => this.upgrades.push({ stream: raw, signal, finish, fail })),
      },
    });
  }

  async errorOf(option: number, data?: Uint8Array): Promise<number> {
    return (await this.option(option, data)).at(-1)!.type;
  }

  /** Asks for TLS and completes it. The conversation continues on `stream`. */
  async upgrade(names: string[] = []): Promise<void> {
    expect(await this.errorOf(Option.starttls)).toBe(OptionReply.ack);
    await nextIteration();
    const stream = new TestStream();
    this.upgrades[0]!.finish({ stream, names });
    await nextIteration();
    this.move(stream);
  }
}

describe('the time for the handshake', () => {
  afterEach(() => void vi.useRealTimers());

  it('covers the options before TLS, TLS itself, and the options after it', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const peer = new TlsPeer('require', false, 5000);
    await peer.greet();
    vi.advanceTimersByTime(2000);
    expect(await peer.errorOf(Option.starttls)).toBe(OptionReply.ack);
    await nextIteration();
    vi.advanceTimersByTime(2000);
    const stream = new TestStream();
    peer.upgrades[0]!.finish({ stream, names: [] });
    await nextIteration();
    peer.move(stream);
    expect(await peer.errorOf(Option.list)).toBe(OptionReply.ack);
    vi.advanceTimersByTime(1500);
    await peer.target.finished;
    expect(stream.destroyed).toBe(true);
  });
});

describe('a server that requires TLS', () => {
  const options: [string, number, Uint8Array?][] = [
    ['list', Option.list],
    ['info', Option.info, infoData('disk', [])],
    ['info of what is not there', Option.info, infoData('none', [])],
    ['go', Option.go, infoData('disk', [])],
    ['structured replies', Option.structuredReply],
    ['extended headers', Option.extendedHeaders],
    ['contexts', Option.setMetaContext, metaData('disk', [session])],
    ['an unknown one', 77, u32(1)],
  ];
  it.each(options)('answers no option but two: %s', async (_what, option, data) => {
    const peer = new TlsPeer('require');
    await peer.greet();
    expect(await peer.errorOf(option, data)).toBe(OptionReply.errTlsRequired);
    expect(await peer.errorOf(Option.abort)).toBe(OptionReply.ack);
    await peer.target.finished;
  });

  it('hangs up on clients that take no error: NBD_OPT_EXPORT_NAME, clients without fixed newstyle', async () => {
    const named = new TlsPeer('require');
    await named.greet();
    await named.send(optionBytes(Option.exportName, new TextEncoder().encode('disk')));
    await named.target.finished;
    expect(named.stream.received.length).toBe(18);
    const old = new TlsPeer('require');
    await old.greet(0);
    await old.target.finished;
    expect(old.stream.received.length).toBe(18);
  });

  it("serves over TLS, passes the client's name to the exports, and refuses a second layer", async () => {
    const peer = new TlsPeer('require');
    await peer.greet();
    await peer.upgrade(['alice', 'alice.example']);
    expect(peer.identified).toEqual(['alice']);
    expect(await peer.errorOf(Option.starttls)).toBe(OptionReply.errInvalid);
    expect((await peer.option(Option.list)).length).toBe(3);
    expect(await peer.errorOf(Option.go, infoData('disk', []))).toBe(OptionReply.ack);
    expect((await peer.ask({ command: 0, length: 512 })).data).toHaveLength(512);
    peer.target.destroy();
    await peer.target.finished;
  });

  it('data with the option is an error, and the client may ask again', async () => {
    const peer = new TlsPeer('require');
    await peer.greet();
    expect(await peer.errorOf(Option.starttls, u32(0))).toBe(OptionReply.errInvalid);
    expect(peer.upgrades).toHaveLength(0);
    await peer.upgrade();
    expect(await peer.errorOf(Option.structuredReply)).toBe(OptionReply.ack);
    peer.target.destroy();
  });
});

describe('nothing from before TLS counts after it', () => {
  it('earlier agreements are forgotten', async () => {
    const peer = new TlsPeer('on');
    await peer.greet();
    await peer.option(Option.extendedHeaders);
    await peer.option(Option.setMetaContext, metaData('disk', ['base:allocation', session]));
    await peer.upgrade();
    expect(await peer.errorOf(Option.setMetaContext, metaData('disk', ['base:allocation']))).toBe(
      OptionReply.errInvalid,
    );
    expect(await peer.errorOf(Option.structuredReply)).toBe(OptionReply.ack);
    expect(await peer.errorOf(Option.go, infoData('disk', []))).toBe(OptionReply.ack);
    expect((await peer.ask({ command: 7, length: 4096 })).error).toBe(22);
    peer.target.destroy();
    await peer.target.finished;
  });

  const injected: [string, Uint8Array][] = [
    ['an option', optionBytes(Option.go, infoData('disk', []))],
    ['one byte', new Uint8Array(1)],
    ['what looks like TLS', Uint8Array.from([22, 3, 1, 0, 100])],
  ];
  it.each(injected)('%s behind the option, in one piece with it, ends the connection', async (_what, bytes) => {
    const peer = new TlsPeer('on');
    await peer.greet();
    await peer.send(join([optionBytes(Option.starttls, new Uint8Array(0)), bytes]));
    await peer.target.finished;
    await nextIteration();
    expect(peer.upgrades).toHaveLength(0);
    expect(peer.stream.destroyed).toBe(true);
  });

  it.each(injected)('%s that comes while the acknowledgement waits to be sent, too', async (_what, bytes) => {
    const peer = new TlsPeer('on');
    await peer.greet();
    peer.stream.blocked = true;
    peer.stream.events!.data(optionBytes(Option.starttls, new Uint8Array(0)));
    await nextIteration();
    expect(peer.upgrades).toHaveLength(0);
    peer.stream.events!.data(bytes);
    await peer.target.finished;
    await nextIteration();
    expect(peer.upgrades).toHaveLength(0);
  });

  it('TLS begins only when the acknowledgement has left', async () => {
    const peer = new TlsPeer('on');
    await peer.greet();
    peer.stream.blocked = true;
    peer.stream.events!.data(optionBytes(Option.starttls, new Uint8Array(0)));
    await nextIteration();
    expect(peer.upgrades).toHaveLength(0);
    peer.stream.unblock();
    await nextIteration();
    expect(peer.upgrades).toHaveLength(1);
    peer.target.destroy();
    await peer.target.finished;
  });
});

describe('an end during TLS', () => {
  it('a handshake that fails ends the connection', async () => {
    const peer = new TlsPeer('on');
    await peer.greet();
    await peer.option(Option.starttls);
    await nextIteration();
    peer.upgrades[0]!.fail(new Error('no'));
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('a handshake that never ends is cancelled and ends the connection', async () => {
    const peer = new TlsPeer('on', false, 50);
    await peer.greet();
    await peer.option(Option.starttls);
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
    expect(peer.upgrades.map(({ signal }) => signal.aborted)).toEqual([true]);
  });

  it('a server that shuts down does not wait for a handshake', async () => {
    const peer = new TlsPeer('on');
    await peer.greet();
    await peer.option(Option.starttls);
    await nextIteration();
    peer.target.drain();
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('a handshake that ends after the connection was closed is closed too', async () => {
    const peer = new TlsPeer('on');
    await peer.greet();
    await peer.option(Option.starttls);
    await nextIteration();
    peer.target.destroy();
    await peer.target.finished;
    const late = new TestStream();
    peer.upgrades[0]!.finish({ stream: late, names: [] });
    await nextIteration();
    expect(late.destroyed).toBe(true);
  });
});

describe('a server where TLS is the choice of the client, and one export is only for TLS', () => {
  it('hides the export from clients without TLS', async () => {
    const peer = new TlsPeer('on', true);
    await peer.greet();
    expect((await peer.option(Option.list)).length).toBe(2);
    await peer.option(Option.structuredReply);
    for (const option of [Option.info, Option.go]) {
      expect(await peer.errorOf(option, infoData('disk', []))).toBe(OptionReply.errTlsRequired);
    }
    // Its sessions are not reachable either: joining one would end its owner's connection.
    expect(await peer.errorOf(Option.setMetaContext, metaData('disk', [session]))).toBe(OptionReply.errPolicy);
    expect(await peer.errorOf(Option.info, infoData('other', []))).toBe(OptionReply.ack);
    await peer.upgrade();
    expect((await peer.option(Option.list)).length).toBe(3);
    expect(await peer.errorOf(Option.go, infoData('disk', []))).toBe(OptionReply.ack);
    peer.target.destroy();
  });

  it('hangs up on NBD_OPT_EXPORT_NAME', async () => {
    const peer = new TlsPeer('on', true);
    await peer.greet();
    await peer.send(optionBytes(Option.exportName, new TextEncoder().encode('disk')));
    await peer.target.finished;
    expect(peer.stream.received.length).toBe(18);
  });
});
