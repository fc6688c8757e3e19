/**
 * fio writes and verifies a disk through `farbus attach aoe:` and `farbus serve --listen aoe:`,
 * over a segment that loses, duplicates, delays, cuts and forges frames and turns bits of their
 * headers. fio must see no error and no wrong byte. Takes 5 s; with FARBUS_TEST_ALL one minute.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freeUdpPort } from '../support/aoe.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { UdpCable } from '../support/udp-faults.js';
import { execute, startFarbus } from './farbus.js';

const seconds = process.env['FARBUS_TEST_ALL'] ? 60 : 5;
/**
 * Bits are turned in the AoE header and the ATA argument, which Farbus seals. A frame with a turned
 * bit in its data counts as lost: an adapter drops it by Ethernet's check sequence.
 */
const faults = {
  loss: 0.05,
  duplication: 0.05,
  reordering: 0.2,
  reorderMs: 300,
  truncation: 0.01,
  flips: 0.01,
  flipsWithin: 22,
  forgery: 0.01,
  seed: 7,
};

describe.skipIf(missing('fio'))(
  'AoE, 1 % of frames cut, 1 % with a turned bit, 1 % forged, others lost, doubled and late',
  () => {
    it(`passes ${seconds} s of fio's verification`, { timeout: 180_000 }, async () => {
      const folder = tempFolder();
      const path = join(folder, 'disk.img');
      writeFileSync(path, new Uint8Array(16 << 20));
      const ports = [await freeUdpPort(), await freeUdpPort()] as const;
      const cable = await UdpCable.lay(ports, faults);
      const segment = (end: 0 | 1): string => `udp:127.0.0.1:${ports[end]}/127.0.0.1:${cable.port(end)}?mtu=9000`;
      const server = startFarbus('serve', path, '--listen', `aoe:1.0@${segment(0)}`);
      await server.printed(/aoe:/);
      const client = startFarbus('attach', `aoe:1.0@${segment(1)}`, '--socket', join(folder, 'sock'));
      const [uri] = await client.printed(/^nbd\S+/m);
      const job = [
        '--ioengine=nbd',
        `--uri=${uri}`,
        '--rw=randrw',
        '--rwmixwrite=70',
        '--bsrange=512-8k',
        '--iodepth=16',
      ];
      const size = ['--size=4M', '--io_size=4G', '--time_based', `--runtime=${seconds}`, '--fsync=40'];
      const verify = ['--verify=crc32c', '--verify_backlog=32', '--verify_fatal=1', '--verify_state_save=0'];
      const fio = await execute('fio', ['--name=v', ...job, ...size, ...verify], 170_000);
      expect(fio).toMatchObject({ code: 0 });
      expect(cable.damaged).toBeGreaterThan(0);
      expect(cable.forged).toBeGreaterThan(0);
      expect(client.stderr()).toBe('');
      client.child.kill('SIGTERM');
      expect(await client.ended).toEqual({ code: 0, signal: null });
      server.child.kill('SIGTERM');
      expect(await server.ended).toEqual({ code: 0, signal: null });
      cable.close();
    });
  },
);
