/** The congestion window of the AoE initiator: slow start and back-off (RFC 5681 section 3.1). */
import { describe, expect, it } from 'vitest';
import { CongestionWindow } from '../../src/protocol/aoe/initiator/window.js';

function answered(window: CongestionWindow, times: number): number {
  for (let i = 0; i < times; i++) window.answered();
  return window.size;
}

describe('a congestion window', () => {
  it('begins with slow start up to the buffer count of the target', () => {
    const window = new CongestionWindow();
    window.limit(64);
    expect(window.size).toBe(8);
    expect(answered(window, 24)).toBe(32);
    expect(answered(window, 100)).toBe(64);
  });

  it('is no larger than the buffer count, also at the start', () => {
    const window = new CongestionWindow();
    window.limit(2);
    expect(window.size).toBe(2);
  });

  it('is halved after a loss and then grows by one message a round trip', () => {
    const window = new CongestionWindow();
    window.limit(64);
    answered(window, 24);
    window.lost(performance.now());
    expect(window.size).toBe(16);
    expect(answered(window, 16)).toBe(16);
    expect(answered(window, 1)).toBe(17);
  });

  it('is one message after silence, and slow start ends at half of the size before', () => {
    const window = new CongestionWindow();
    window.limit(64);
    answered(window, 24);
    window.collapse();
    expect(window.size).toBe(1);
    expect(answered(window, 15)).toBe(16);
    expect(answered(window, 16)).toBeLessThan(18);
  });
});
