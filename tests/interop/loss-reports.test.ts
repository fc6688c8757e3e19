/**
 * The loss and return of a server are each reported once, however many connections there are to it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { tempFolder } from '../support/temp.js';
import { execute, startFarbus } from './farbus.js';

it('reports a lost server once and its return once, with four connections', async () => {
  const folder = tempFolder();
  const path = join(folder, 'disk.img');
  writeFileSync(path, new Uint8Array(1 << 20));
  const listen = `nbd+unix:///?socket=${join(folder, 'upstream')}`;
  const first = startFarbus('serve', path, '--listen', listen);
  await first.printed(/^nbd/m);
  const uri = `nbd+unix:///disk.img?socket=${join(folder, 'upstream')}&x-connections=4`;
  const client = startFarbus('attach', uri, '--socket', join(folder, 'sock'));
  const [own] = await client.printed(/^nbd\S+/m);
  first.child.kill('SIGKILL');
  await first.ended;
  const second = startFarbus('serve', path, '--listen', listen);
  await second.printed(/^nbd/m);
  expect(await execute('nbdinfo', ['--size', own])).toMatchObject({ code: 0 });
  // Requests go over all connections, so each of them must have returned.
  expect(await execute('nbdcopy', [own, join(folder, 'copy')])).toMatchObject({ code: 0 });
  while (!client.stderr().includes('connected again')) await new Promise((resolve) => setTimeout(resolve, 20));
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(client.stderr().match(/connection lost/g)).toHaveLength(1);
  expect(client.stderr().match(/connected again/g)).toHaveLength(1);
  for (const one of [client, second]) one.child.kill('SIGTERM');
  for (const one of [client, second]) await one.ended;
});
