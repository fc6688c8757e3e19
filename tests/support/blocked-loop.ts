/**
 * Runs before each test file: ends a file whose event loop is blocked. Its tests' time limits need
 * the event loop, so that an endless loop would otherwise stop the whole run without a word. The
 * name of the file is in the last line that its process writes.
 */
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';

/** Processor time that no single piece of synchronous work may take. */
const computedSeconds = 200;
/** Time that no program may take that a test waits for synchronously. */
const waitedSeconds = 1500;

// A thread, since the loop that it watches may be blocked: `kill` is then the only way out.
const watcher = `
  const { workerData } = require('node:worker_threads');
  const computed = () => process.cpuUsage().user / 1e6;
  let [seen, since, before] = [-1, Date.now(), computed()];
  setInterval(() => {
    const now = Atomics.load(workerData.beats, 0);
    if (now !== seen) [seen, since, before] = [now, Date.now(), computed()];
    const [waited, worked] = [(Date.now() - since) / 1000, computed() - before];
    if (worked < ${computedSeconds} && waited < ${waitedSeconds}) return;
    const line = workerData.file + ': its event loop was blocked for ' + Math.round(waited) + ' s\\n';
    require('node:fs').writeSync(2, line);
    process.kill(process.pid, 'SIGKILL');
  }, 1000);
`;

const beats = new Int32Array(new SharedArrayBuffer(4));
setInterval(() => Atomics.add(beats, 0, 1), 1000).unref();
new Worker(watcher, { eval: true, workerData: { beats, file: expect.getState().testPath } }).unref();
