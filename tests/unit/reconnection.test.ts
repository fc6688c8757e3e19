/**
 * The parts that all initiators share (src/protocol/remote), and the pool of channels with
 * channels that the test controls.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockError } from '../../src/block/errors.js';
import type { Channel, ChannelEvents, RemoteFacts } from '../../src/protocol/channels/channel.js';
import { Pool } from '../../src/protocol/channels/pool.js';
import { RemoteRequest } from '../../src/protocol/channels/request.js';
import { Durability } from '../../src/protocol/remote/durability.js';
import { Reconnection } from '../../src/protocol/remote/reconnection.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp(reconnectSeconds: number) {
  const states: string[] = [];
  const failed: string[] = [];
  const reconnection = new Reconnection({
    address: 'there',
    reconnectSeconds,
    log: silent,
    onState: (state) => states.push(state),
    failWaiting: (error) => failed.push(error.message),
    cutOff: () => failed.push('cut off'),
  });
  reconnection.connected();
  return { reconnection, states, failed };
}

function request(signal?: AbortSignal): { one: RemoteRequest; result: Promise<string> } {
  const one = new RemoteRequest({ op: 'read', offset: 0, length: 512, signal }, () => undefined);
  return {
    one,
    result: one.done.then(
      () => 'done',
      (error: BlockError) => error.kind,
    ),
  };
}

describe('reconnection', () => {
  it('lets requests wait for the reconnect time, then fails them, and later ones at once', async () => {
    const { reconnection, states, failed } = setUp(3);
    expect(reconnection.lost('cut')).toBe(true);
    await vi.advanceTimersByTimeAsync(2999);
    expect([reconnection.failure, failed]).toEqual([undefined, []]);
    await vi.advanceTimersByTimeAsync(1);
    expect(failed).toEqual(['there is not reachable for 3 seconds: cut']);
    expect(reconnection.failure?.kind).toBe('unreachable');
    reconnection.calm();
    reconnection.connected();
    expect(reconnection.failure).toBeUndefined();
    expect(states).toEqual(['connected', 'reconnecting', 'lost', 'connected']);
  });

  it('does not count the time for which the process slept', async () => {
    const { reconnection, failed } = setUp(10);
    const now = performance.now.bind(performance);
    let slept = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now() + slept);
    try {
      const waiting = request();
      reconnection.keep([waiting.one], 'cut');
      reconnection.lost('cut');
      await vi.advanceTimersByTimeAsync(1000);
      slept = 120_000;
      // Up to 2 s of the sleep are counted.
      await vi.advanceTimersByTimeAsync(6500);
      expect(failed).toEqual([]);
      expect(reconnection.keep([waiting.one], 'cut again')).toEqual([waiting.one]);
      await vi.advanceTimersByTimeAsync(2500);
      expect(failed).toEqual(['there is not reachable for 10 seconds: cut again']);
    } finally {
      vi.restoreAllMocks();
    }
  });

  it('does not count a sleep after the return of the server, also if its socket notices it first', async () => {
    const { reconnection } = setUp(10);
    const now = performance.now.bind(performance);
    let slept = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now() + slept);
    try {
      const waiting = request();
      reconnection.keep([waiting.one], 'cut');
      reconnection.lost('cut');
      await vi.advanceTimersByTimeAsync(1000);
      // The server is back, and has the request again.
      reconnection.calm();
      reconnection.connected();
      await vi.advanceTimersByTimeAsync(1000);
      slept = 3_600_000;
      expect(reconnection.keep([waiting.one], 'cut again')).toEqual([waiting.one]);
      // 2 s, up to 2 s of the sleep, and the rest awake.
      reconnection.lost('cut again');
      await vi.advanceTimersByTimeAsync(8000);
      expect(reconnection.keep([waiting.one], 'and again')).toEqual([]);
      expect(await waiting.result).toBe('unreachable');
    } finally {
      reconnection.close();
      vi.restoreAllMocks();
    }
  });

  it('ends, however often and however long the process sleeps', async () => {
    const { reconnection, failed } = setUp(60);
    const now = performance.now.bind(performance);
    let slept = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now() + slept);
    try {
      reconnection.lost('cut');
      let wakes = 0;
      for (; failed.length === 0 && wakes < 1000; wakes++) {
        slept += 3_600_000;
        await vi.advanceTimersByTimeAsync(500);
      }
      // Each counts for 2 s.
      expect(wakes).toBe(30);
    } finally {
      reconnection.close();
      vi.restoreAllMocks();
    }
  });

  it('without a reconnect time fails requests at once', () => {
    const { reconnection, states, failed } = setUp(0);
    expect(reconnection.lost('cut')).toBe(false);
    expect(failed).toEqual(['there is not reachable: cut']);
    expect(states).toEqual(['connected', 'lost']);
  });

  it('fails a request that loses connections for longer than the reconnect time, and an aborted one', async () => {
    const { reconnection } = setUp(3);
    const control = new AbortController();
    const [long, fresh, aborted] = [request(), request(), request(control.signal)];
    control.abort();
    expect(reconnection.keep([long.one, aborted.one], 'cut')).toEqual([long.one]);
    await vi.advanceTimersByTimeAsync(3000);
    expect(reconnection.keep([long.one, fresh.one], 'cut again')).toEqual([fresh.one]);
    expect(await Promise.all([long.result, aborted.result])).toEqual(['unreachable', 'aborted']);
  });

  it('makes attempts until one succeeds, and none once it is closed', async () => {
    const { reconnection } = setUp(3);
    let attempts = 0;
    const second = reconnection.retry(() => Promise.resolve(++attempts === 2), { key: 'attempt' });
    await vi.advanceTimersByTimeAsync(1000);
    await second;
    expect(attempts).toBe(2);
    const never = reconnection.retry(() => Promise.reject(new Error(`attempt ${++attempts}`)), { key: 'attempt' });
    await vi.advanceTimersByTimeAsync(250);
    const before = attempts;
    expect([before > 2, reconnection.reason]).toEqual([true, `attempt ${before}`]);
    reconnection.close();
    await never;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(attempts).toBe(before);
  });

  it('dials a server that closes at once less and less often, and a useful one soon', async () => {
    const { reconnection } = setUp(60);
    let attempts = 0;
    const accepted = (): Promise<boolean> => {
      attempts++;
      reconnection.calm();
      reconnection.connected();
      return Promise.resolve(true);
    };
    const dialled: number[] = [];
    for (const second of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
      const end = second * 1000;
      for (let ms = end - 1000; ms < end; ms += 50) {
        if (reconnection.state === 'connected') {
          reconnection.lost('closed');
          void reconnection.retry(accepted, { key: 'attempt' });
        }
        await vi.advanceTimersByTimeAsync(50);
      }
      dialled.push(attempts);
    }
    expect(dialled[9]! - dialled[5]!).toBeLessThanOrEqual(3);
    // It is there for longer than a brief time: the next loss is followed by a short pause.
    await vi.advanceTimersByTimeAsync(3000);
    expect(reconnection.state).toBe('connected');
    const before = attempts;
    reconnection.lost('restarted');
    void reconnection.retry(accepted, { key: 'attempt' });
    await vi.advanceTimersByTimeAsync(100);
    expect(attempts).toBe(before + 1);
    // It answers, and is lost again: that is no reason for longer pauses.
    for (let more = 2; more < 5; more++) {
      reconnection.answered();
      reconnection.lost('cut');
      void reconnection.retry(accepted, { key: 'attempt' });
      await vi.advanceTimersByTimeAsync(100);
      expect(attempts).toBe(before + more);
    }
    reconnection.close();
  });

  it('of a device that is being closed ends after a short time', async () => {
    const { reconnection, failed } = setUp(60);
    reconnection.lost('cut');
    reconnection.hurry();
    await vi.advanceTimersByTimeAsync(5000);
    expect(failed).toContain('cut off');
    expect(reconnection.state).toBe('lost');
  });
});

describe('durability', () => {
  it('reports lost writes to one flush after the server has another memory', () => {
    const durability = new Durability('target');
    durability.connected('a');
    durability.wrote();
    const flush = { covers: 0 };
    expect(durability.flushing(flush)).toBeUndefined();
    durability.wrote();
    durability.flushed(flush);
    expect(durability.connected('a')).toBeUndefined();
    expect(durability.connected('b')?.message).toMatch(/the target was restarted: 1 writes/);
    expect(durability.flushing({ covers: 0 })?.message).toMatch(/1 writes/);
    expect(durability.flushing({ covers: 0 })).toBeUndefined();
    expect(durability.connected('c')).toBeUndefined();
  });
});

/** A channel that answers nothing, and never learns whether a lost one is gone. */
class StuckChannel implements Channel {
  readonly facts: RemoteFacts = {
    machine: 'm',
    boot: 'b',
    marks: { hardware: 'disk' },
    size: 1 << 20,
    sector: 512,
    readOnly: false,
    flush: true,
    used: '',
  };
  readonly fenceKey = { kind: 'stuck' };
  readonly sent: RemoteRequest[] = [];
  #events: ChannelEvents | undefined;

  get load(): number {
    return this.sent.length;
  }
  hasRoom(): boolean {
    return true;
  }
  start(events: ChannelEvents): void {
    this.#events = events;
  }
  send(one: RemoteRequest): void {
    this.sent.push(one);
  }
  fence(): Promise<never> {
    return Promise.reject(new Error('it still runs'));
  }
  lose(): void {
    this.#events!.lost('cut', this.sent.splice(0));
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
  destroy(): void {}
}

describe('a pool of channels', () => {
  it('fails the writes of a second lost channel too while the first cannot be fenced', async () => {
    const channels = [new StuckChannel(), new StuckChannel(), new StuckChannel()] as const;
    let opened = 0;
    const pool = new Pool(channels[0], () => Promise.resolve(channels[++opened]!), {
      address: 'there',
      channels: 3,
      reconnectSeconds: 3,
      witness: undefined,
      life: undefined,
      log: silent,
      onState: () => undefined,
    });
    const kinds: string[] = [];
    const write = (offset: number): void => {
      const buffers = buffersOf(new Uint8Array(512));
      const { done } = pool.run({ op: 'write', offset, length: 512, buffers });
      void done.catch((error: BlockError) => kinds.push(error.kind));
    };
    for (let i = 0; i < 9; i++) {
      write(i * 512);
      await vi.advanceTimersByTimeAsync(1);
    }
    expect(channels.map(({ load }) => load > 0)).toEqual([true, true, true]);
    const [first, second] = [channels[0].load, channels[1].load];
    channels[0].lose();
    await vi.advanceTimersByTimeAsync(3000);
    expect(kinds).toEqual(new Array(first).fill('unreachable'));
    channels[1].lose();
    await vi.advanceTimersByTimeAsync(3000);
    expect(kinds).toHaveLength(first + second);
    await pool.close();
  });
});
