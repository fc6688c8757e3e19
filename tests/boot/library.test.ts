/**
 * Computers from a program: the example of a Debian with a far disk, and a site from an object,
 * each booted once, at the same time.
 *
 * Not here: what the computers can do (the other files of tests/boot).
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { MemoryDevice } from '../../src/api/index.js';
import { serve, startDebian } from '../../src/api/node.js';
import { execute } from '../interop/farbus.js';
import { Random } from '../../src/conformance/random.js';
import { tempImage } from '../support/temp.js';

const size = 1 << 20;
const example = fileURLToPath(new URL('../../examples/library/computer.mjs', import.meta.url));

it.concurrent(
  'examples/library/computer.mjs runs a command in a Debian with a far disk',
  async () => {
    const content = Buffer.alloc(size, 'far away');
    const server = await serve({ disk: tempImage(content) }, { listen: 'nbd://127.0.0.1:0' });
    try {
      const command = 'dd if=/dev/nvme0n1 bs=8 count=1 2>/dev/null; exit 3';
      const { code, stdout, stderr } = await execute(process.execPath, [example, server.uri(), command], 200_000);
      expect({ code, stdout, stderr }).toEqual({ code: 3, stdout: 'far away', stderr: '' });
    } finally {
      await server.close();
    }
  },
  240_000,
);

/** A program of a library user; its word is the path of a disk. */
const siteProgram = `
  import { startSite } from 'farbus/node';
  const disk = process.argv[1];
  const states = [];
  const site = await startSite(
    { computers: { desk: { role: 'client', drives: [disk] } } },
    { onStatus: ({ name, state }) => states.push(name + ' ' + state) },
  );
  const command = 'printf written | dd of=/dev/nvme0n1 conv=fsync 2>/dev/null; cat /sys/block/nvme0n1/size';
  const results = [await site.run('desk', command)];
  for (const computer of ['none', 'desk']) {
    results.push(await site.run(computer, 'true').catch(({ message }) => message));
    await site.close();
    await site.over;
  }
  console.log(JSON.stringify({ states, results }));
`;

it.concurrent(
  'a site from an object starts, runs commands, and ends',
  async () => {
    const disk = tempImage(new Random(1).bytes(size));
    const args = ['--input-type=module', '-e', siteProgram, disk];
    const { stdout, stderr } = await execute(process.execPath, args, 200_000);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      states: ['desk starting', 'desk booting', 'desk running', 'desk stopped'],
      results: [
        { output: `${size / 512}\n`, status: 0 },
        'there is no computer "none" in this site: give one of desk',
        'desk has ended',
      ],
    });
    expect(readFileSync(disk).subarray(0, 7).toString()).toBe('written');
  },
  240_000,
);

it('a Debian that cannot start leaves the caller its drives, and says why', async () => {
  const memory = new MemoryDevice(size);
  await expect(startDebian({ drives: [memory], memory: 1 << 20 })).rejects.toThrow(/is too little for this system/);
  await expect(startDebian({ drives: [memory, 'memory:x'] })).rejects.toMatchObject({ kind: 'usage' });
  const reason = new Error('enough');
  await expect(startDebian({ drives: [memory], signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const stop = new AbortController();
  const starting = startDebian({ drives: [memory], signal: stop.signal });
  setTimeout(() => stop.abort(reason), 300);
  await expect(starting).rejects.toBe(reason);
  await memory.write(0, new Uint8Array(512));
  await memory.close();
});
