/** The watchdog of the fuzzers: a fault that it does not find makes every fuzzer worthless. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { tempPath } from '../support/temp.js';

const thread = fileURLToPath(new URL('./harness/watchdog-thread.mjs', import.meta.url));

/**
 * Runs `body` in a process of its own under the watchdog; what it prints, and the signal that ends
 * it.
 */
async function watched(body: string, replayFile: string): Promise<{ printed: string; signal: string | null }> {
  const script = `
    const { Worker } = require('node:worker_threads');
    const state = new SharedArrayBuffer(8), text = new SharedArrayBuffer(64);
    const bytes = Buffer.from('after 3 inputs\\n0102 03');
    new Uint8Array(text).set(bytes);
    new Int32Array(state)[1] = bytes.length;
    new Worker(${JSON.stringify(thread)}, { workerData: {
      state, text, stuckCpuMs: 500, stuckMs: 60000, maxRss: 2 ** 29, title: 'demo', replayFile: ${JSON.stringify(replayFile)},
    } }).unref();
    ${body}`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const [, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { printed, signal };
}

test('an endless loop is ended, and its inputs and place are reported', async () => {
  const file = tempPath('inputs');
  const { printed, signal } = await watched('setTimeout(function spin() { for (;;); }, 1000);', file);
  expect(signal).toBe('SIGKILL');
  expect(printed).toContain('demo, after 3 inputs: the event loop does not turn');
  expect(printed).toContain('at spin');
  expect(readFileSync(file, 'utf8')).toBe('0102 03\n');
});

test('memory that grows without bound is found while the loop still runs', async () => {
  const grow = 'const all = []; setTimeout(() => { for (;;) all.push(Buffer.alloc(1 << 20, 1)); }, 1000);';
  const { printed, signal } = await watched(grow, tempPath('inputs'));
  expect(signal).toBe('SIGKILL');
  expect(printed).toContain('it holds more than 512 MiB');
});
