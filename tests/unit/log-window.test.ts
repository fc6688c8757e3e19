/** Lines of repeated events: the first and the last of a window, and how many there were. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { WindowedLogger } from '../../src/base/log-window.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function windowed() {
  const lines: string[] = [];
  const log = new WindowedLogger({ log: (level, message) => lines.push(`${level} ${message}`) }, 'doors');
  return { log, lines };
}

it('rare lines pass at once', () => {
  const { log, lines } = windowed();
  for (let day = 0; day < 3; day++) {
    log.log('info', 'open', 'the door opens');
    log.log('info', 'shut', 'the door shuts');
    expect(lines.splice(0)).toEqual(['info the door opens', 'info the door shuts']);
    vi.advanceTimersByTime(60_000);
    expect(lines).toEqual([]);
  }
});

it('of many lines the first and the last pass, which tells the last state, and their number', () => {
  const { log, lines } = windowed();
  for (let at = 0; at < 5; at++) {
    log.log('info', 'open', `opens at ${at}`);
    if (at < 4) log.log('info', 'shut', `shuts at ${at}`);
  }
  expect(lines.splice(0)).toEqual(['info opens at 0', 'info shuts at 0']);
  vi.advanceTimersByTime(10_000);
  expect(lines.splice(0)).toEqual([
    'info shuts at 3 (and 2 more like this before)',
    'info opens at 4 (and 3 more like this before)',
  ]);
  log.log('info', 'open', 'opens at 9');
  expect(lines).toEqual(['info opens at 9']);
});

it('lines of too many keys are counted', () => {
  const { log, lines } = windowed();
  for (let door = 0; door < 1000; door++) log.log('info', `open ${door}`, `door ${door} opens`);
  expect(lines).toHaveLength(32);
  log.flush();
  expect(lines.slice(32)).toEqual(['warn 968 more lines about doors were left out']);
  log.flush();
  expect(lines).toHaveLength(33);
});
