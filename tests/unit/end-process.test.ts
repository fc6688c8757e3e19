/** A process ends immediately even if one of its threads waits for a disk that does not answer. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { testWithKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';

const module = fileURLToPath(new URL('../../dist/linux/end-process.node.js', import.meta.url));

/** Reads from a pipe that never receives data, which blocks a thread, and then ends. */
const script = `
  const fs = require('node:fs');
  const fd = fs.openSync(process.argv[1], 'r+');
  fs.read(fd, Buffer.alloc(1), 0, 1, null, () => undefined);
  process.on('exit', () => fs.writeSync(1, 'cleaned up'));
  import(process.argv[2]).then(({ endProcess }) => setTimeout(() => endProcess(7), 100));
`;

async function run(env: NodeJS.ProcessEnv): Promise<{ output: string; ended: unknown[] }> {
  const pipe = tempPath('pipe');
  execFileSync('mkfifo', [pipe]);
  const child = spawn(process.execPath, ['-e', script, pipe, module], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = await once(child, 'close');
  return { output, ended };
}

describe('the end of a process', () => {
  testWithKoffi('has the status that is wanted', async () => {
    expect(await run(process.env)).toEqual({ output: 'cleaned up', ended: [7, null] });
  });

  it('also works without koffi, by a signal', async () => {
    expect(await run({ ...process.env, FARBUS_NO_KOFFI: '1' })).toEqual({
      output: 'cleaned up',
      ended: [null, 'SIGKILL'],
    });
  });
});
