/**
 * Commands to a running computer of `farbus run`, and its mouse over the web: a boot record prints
 * what the mouse sends, so it also shows whether the processor stands still.
 */
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { mouseRecord } from '../support/mouse-record.js';
import { Processes } from '../support/processes.js';

/** The output of the computer's console, in hexadecimal. */
function consoleOf(place: Processes): (text: string) => Promise<void> {
  const console = place.spawnPiped('console', 'tiny');
  let seen = '';
  console.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString('hex')));
  return async (hex) => {
    while (!seen.includes(hex)) await once(console.stdout, 'data');
    seen = seen.slice(seen.indexOf(hex) + hex.length);
  };
}

const readyText = Buffer.from('ready').toString('hex');

it('pause, resume, snapshot, drive and the mouse reach a computer of farbus run', async () => {
  const place = new Processes();
  writeFileSync(place.image, mouseRecord('ready'));
  const snapshot = join(place.folder, 'tiny.snap');
  const drives = ['--drive', `${place.image},bus=ide`, '--drive', 'memory:1M,bus=ahci'];
  const options = ['--bios', ...drives, '--snapshot-after', 'ready', '--engine', 'v86', '--name', 'tiny'];
  expect((await place.farbus('run', '--detach', ...options)).code).toBe(0);
  await place.list();
  const web = place.spawn('serve', '--web', '127.0.0.1:0', '--listen', 'nbd://127.0.0.1:0', 'memory:1M');
  let printed = '';
  let found: RegExpExecArray | null = null;
  web.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  while (!(found = /(http:\S+)\/#token=(\S+)\n/.exec(printed))) await once(web.stdout, 'data');
  const [, origin, token] = found;
  const ask = async (path: string, body?: object): Promise<[number, unknown]> => {
    const headers = { authorization: `Bearer ${token!}`, 'content-type': 'application/json' };
    const post = body && { method: 'POST', body: JSON.stringify(body) };
    const answer = await fetch(`${origin!}/api/computers${path}`, { headers, ...post });
    return [answer.status, await answer.json()];
  };
  const mouse = async (move: object): Promise<number> => (await ask('/tiny/mouse', move))[0];

  expect(await ask('')).toMatchObject([200, [{ name: 'tiny', can: expect.arrayContaining(['mouse']) as unknown }]]);
  let shows = consoleOf(place);
  await shows(readyText);
  // To the right and upwards, with the left button; then the wheel.
  expect(await mouse({ x: 5, y: -3, buttons: 1 })).toBe(200);
  await shows('0805030009000000');
  expect(await mouse({ x: 0, y: 0, wheel: 1, buttons: 1 })).toBe(200);
  await shows('09000001');
  // A packet has 9 bits: a longer movement is several.
  expect(await mouse({ x: 300, y: 2, buttons: 0 })).toBe(200);
  await shows('29fffe00092d000008000000');
  for (const wrong of [{ x: 1e9, y: 0, buttons: 0 }, { x: 0.5, y: 0, buttons: 0 }, { x: 0, y: 0, buttons: 9 }, {}]) {
    expect(await mouse(wrong)).toBe(400);
  }

  const paused = 'tiny is paused; farbus resume tiny lets it go on\n';
  expect(await place.farbus('pause', 'tiny')).toEqual({ code: 0, stdout: paused, stderr: '' });
  expect((await place.list()).find(({ name }) => name === 'tiny')).toMatchObject({ state: 'paused' });
  const moved = mouse({ x: 7, y: 0, buttons: 0 });
  const saved = await place.farbus('snapshot', 'tiny', snapshot);
  expect(saved).toMatchObject({ code: 0, stdout: `saved to ${snapshot}\n` });
  expect((await place.farbus('snapshot', 'tiny', place.image)).stderr).toContain('is not a snapshot');
  expect((await place.farbus('snapshot', 'tiny', join(place.folder, 'none/x'))).stderr).toContain('there is no folder');
  expect(existsSync(join(place.folder, 'none'))).toBe(false);
  expect(await moved).toBe(200);
  expect(await place.farbus('resume', 'tiny')).toEqual({ code: 0, stdout: 'tiny goes on\n', stderr: '' });
  await shows('08070000');

  const lines = (second: string): string => `0  disk  ${place.image},bus=ide\n1  disk  ${second}\n`;
  expect((await place.farbus('drive', 'tiny')).stdout).toBe(lines('memory:1M,bus=ahci  (can detach)'));
  expect((await place.farbus('drive', 'tiny', 'detach', '1')).stdout).toBe('detached drive 1\n');
  expect((await place.farbus('drive', 'tiny')).stdout).toBe(lines('empty  (can attach)'));
  expect((await place.farbus('drive', 'tiny', 'attach', '1', 'memory:2M')).stdout).toBe('attached to drive 1\n');
  expect((await place.farbus('drive', 'tiny')).stdout).toBe(lines('memory:2M  (can detach)'));
  const refused = await place.farbus('drive', 'tiny', 'detach', '0');
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('no disk on the bus ahci') as string });
  for (const wrong of [['drive', 'tiny', 'detach'], ['drive', 'tiny', 'attach', 'one', 'memory:1M'], ['pause']]) {
    expect((await place.farbus(...wrong)).code).toBe(2);
  }
  expect((await place.farbus('pause', 'server')).stderr).toMatch(/^farbus: server is a server: [^\n]+\n$/);

  expect((await place.farbus('stop', 'tiny')).code).toBe(0);
  expect((await place.farbus('run', '--detach', ...options, '--snapshot', snapshot)).code).toBe(0);
  await place.list();
  shows = consoleOf(place);
  expect(await mouse({ x: 1, y: 0, buttons: 0 })).toBe(200);
  await shows('08010000');
  expect((await place.farbus('stop', '--all')).code).toBe(0);
});
