/** The process of a site's computer: requests that arrive before it has been told to start. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readSite } from '../../src/app/config/site.js';
import { inProcesses } from '../../src/site/process.node.js';

const child = join(import.meta.dirname, '../../dist/app/site/child.js');
const work = { signal: new AbortController().signal, waitsFor: () => undefined };

it('a request that arrives before the start is refused, and the computer goes on', async () => {
  const text = 'computers: { c: { role: client } }';
  const [plan] = readSite('site.yaml', text, { name: 'site', checkFile: () => undefined }).computers;
  const told: string[] = [];
  const computer = inProcesses(child)(
    plan!,
    undefined,
    {
      state: (state) => told.push(state),
      output: () => undefined,
      log: (_, message) => told.push(message),
      leases: () => undefined,
    },
    { traceFolder: undefined },
  );
  try {
    await expect(computer.control({ command: 'pause' }, work)).rejects.toThrow('the computer is starting');
    await expect(computer.moveLease('c/none', 'local', work)).rejects.toThrow(/starting|there is no device/);
    expect(told.filter((state) => state === 'crashed')).toEqual([]);
  } finally {
    await computer.stop();
  }
  expect(told.at(-1)).toBe('stopped');
});
