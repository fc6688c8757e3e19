/** Progress without a terminal: silent until the end, or lines now and then if asked for. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { processIo } from '../../src/cli/ui/io.js';
import { noteSeconds, ProgressLine } from '../../src/cli/ui/progress.js';

const MiB = 1 << 20;

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

function lineWith(options?: { notes: boolean }): { line: ProgressLine; written: string[] } {
  const written: string[] = [];
  const io = { ...processIo(), env: {}, stderr: { write: (text: string) => void written.push(text) } };
  return { line: new ProgressLine(io, options), written };
}

/** 100 MiB in 25 s. */
function work(line: ProgressLine): void {
  for (let second = 0; second <= 25; second++) {
    line.bytes('copied', second * 4 * MiB, 100 * MiB);
    vi.advanceTimersByTime(1000);
  }
}

it('is one line at the end', () => {
  const { line, written } = lineWith();
  work(line);
  expect(written).toEqual(['  copied: 100 MiB\n']);
});

it('is a line now and then, if asked for, and none at the end', () => {
  const { line, written } = lineWith({ notes: true });
  work(line);
  expect(noteSeconds).toBe(10);
  expect(written).toEqual([
    'farbus: copied 40%, 40.0 MiB of 100 MiB, 4.0 MiB/s, 15 s left\n',
    'farbus: copied 80%, 80.0 MiB of 100 MiB, 4.0 MiB/s, 5 s left\n',
  ]);
});
