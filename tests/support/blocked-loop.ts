/**
 * Runs before each test file: ends a file whose event loop is blocked. Its tests' time limits need
 * the event loop, so that an endless loop would otherwise stop the whole run without a word. The
 * name of the file is in the last line that its process writes.
 */
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';

/** Longer than any hook or test may take, also if it waits for a program synchronously. */
const limitSeconds = 300;

// A thread, since the loop that it watches may be blocked: `kill` is then the only way out.
const watcher = `
  const { workerData } = require('node:worker_threads');
  let [seen, since] = [-1, Date.now()];
  setInterval(() => {
    const now = Atomics.load(workerData.beats, 0);
    if (now !== seen) [seen, since] = [now, Date.now()];
    if (Date.now() - since < ${limitSeconds} * 1000) return;
    require('node:fs').writeSync(2, workerData.file + ': its event loop was blocked for ${limitSeconds} s\\n');
    process.kill(process.pid, 'SIGKILL');
  }, 1000);
`;

const beats = new Int32Array(new SharedArrayBuffer(4));
setInterval(() => Atomics.add(beats, 0, 1), 1000).unref();
new Worker(watcher, { eval: true, workerData: { beats, file: expect.getState().testPath } }).unref();
