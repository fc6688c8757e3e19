/**
 * Admission of connections: how many a server accepts, and which one it closes if too many stay in
 * the handshake.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Admission, defaultConnectionLimits, type Admitted } from '../../src/export/admission.js';

class Client implements Admitted {
  gaveWay = false;
  readonly peer: string;

  constructor(peer: string) {
    this.peer = peer;
  }

  giveWay(): void {
    this.gaveWay = true;
  }
}

function come(admission: Admission, peer: string): Client {
  expect(admission.refusal(peer)).toBeUndefined();
  const client = new Client(peer);
  admission.add(client);
  return client;
}

const limits = (some: Partial<typeof defaultConnectionLimits>) => ({ ...defaultConnectionLimits, ...some });

describe('connections', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('are limited in number', () => {
    const admission = new Admission(limits({ maxConnections: 2 }));
    const first = come(admission, '10.0.0.1:1');
    come(admission, 'a unix socket');
    expect(admission.refusal('10.0.0.2:1')).toMatch(/^there are 2 connections already \(--max-connections\)/);
    admission.remove(first);
    come(admission, '10.0.0.2:1');
  });

  it.each([
    ['10.0.0.1:1', '10.0.0.1:2', '10.0.0.2:1'],
    ['[::ffff:10.0.0.1]:1', '10.0.0.1:2', '[::ffff:10.0.0.2]:1'],
    ['[2001:db8::1]:1', '[2001:db8:0:0:ffff::2]:1', '[2001:db8:0:1::1]:1'],
    ['[fe80::1%eth0]:1', '[fe80::2]:1', '[::1]:1'],
  ])('are limited per address: %s and %s count together, %s does not', (one, same, other) => {
    const admission = new Admission(limits({ maxPerAddress: 1 }));
    const first = come(admission, one);
    expect(admission.refusal(same)).toMatch(/^1 connections come from there already \(--max-per-address\)/);
    come(admission, other);
    admission.remove(first);
    come(admission, same);
  });

  it('by unix sockets have no address', () => {
    const admission = new Admission(limits({ maxPerAddress: 1 }));
    for (let i = 0; i < 10; i++) come(admission, 'a unix socket');
  });

  it('that are in the handshake give way: the oldest of the address with the most', () => {
    const admission = new Admission(limits({ maxHandshakes: 4 }));
    const others = [come(admission, '10.0.0.2:1')];
    const flood = [1, 2, 3].map((port) => come(admission, `10.0.0.1:${port}`));
    expect(admission.refusal('10.0.0.3:1')).toMatch(/^4 connections are in the handshake already/);
    vi.advanceTimersByTime(2500);
    others.push(come(admission, '10.0.0.3:1'), come(admission, '10.0.0.1:4'));
    expect(flood.map(({ gaveWay }) => gaveWay)).toEqual([true, true, false]);
    expect(others.some(({ gaveWay }) => gaveWay)).toBe(false);
    // The server reports only later that the closed connections have ended.
    for (const one of flood) admission.remove(one);
    expect(admission.handshakes).toBe(3);
  });

  it('of one address that floods give way to other addresses at once, and not to more of its own', () => {
    const admission = new Admission(limits({ maxHandshakes: 16 }));
    const flood = Array.from({ length: 16 }, (_, port) => come(admission, `10.0.0.1:${port}`));
    expect(admission.refusal('10.0.0.1:99')).toMatch(/^16 connections are in the handshake already/);
    const others = [1, 2, 3, 4].map((port) => come(admission, `10.0.0.2:${port}`));
    expect(flood.map(({ gaveWay }) => gaveWay)).toEqual(flood.map((_, i) => i < 4));
    expect(others.some(({ gaveWay }) => gaveWay)).toBe(false);
    // Another address has its share too; then it waits for the grace like all.
    expect(admission.refusal('10.0.0.2:5')).toMatch(/^16 connections/);
    come(admission, '10.0.0.3:1');
    vi.advanceTimersByTime(2500);
    come(admission, '10.0.0.1:99');
  });

  it('that use an export do not give way', () => {
    const admission = new Admission(limits({ maxHandshakes: 1 }));
    const first = come(admission, '10.0.0.1:1');
    admission.entered(first);
    vi.advanceTimersByTime(2500);
    const second = come(admission, '10.0.0.1:2');
    vi.advanceTimersByTime(2500);
    come(admission, '10.0.0.1:3');
    expect([first.gaveWay, second.gaveWay]).toEqual([false, true]);
  });

  it('leave nothing behind', () => {
    const admission = new Admission(limits({ maxConnections: 3, maxPerAddress: 3, maxHandshakes: 3 }));
    for (let round = 0; round < 10; round++) {
      const clients = [1, 2, 3].map((port) => come(admission, `10.0.0.1:${port}`));
      admission.entered(clients[0]!);
      for (const client of clients) {
        admission.remove(client);
        admission.remove(client);
      }
      expect(admission.handshakes).toBe(0);
    }
  });
});
