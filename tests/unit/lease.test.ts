/** The lease of a device with two sides: they must never both write. */
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { LeaseArbiter } from '../../src/block/filters/lease.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GatedDisk } from '../support/gated-disk.js';

const block = (value: number) => buffersOf(new Uint8Array(512).fill(value));

describe('a lease', () => {
  it('lets one side write, and both read', async () => {
    const lease = new LeaseArbiter(new MemoryDevice(4096), ['network', 'local']);
    const [network, local] = [lease.side('network'), lease.side('local')];
    await network.write(0, block(1));
    for (const refused of [local.write(0, block(2)), local.trim(0, 512), local.writeZeroes(0, 512)]) {
      await expect(refused).rejects.toMatchObject({ kind: 'read-only' });
    }
    const seen = new Uint8Array(512);
    await local.read(0, buffersOf(seen));
    expect(seen[0]).toBe(1);
    await local.flush();
    await lease.move('local');
    expect(lease.holder).toBe('local');
    await local.write(0, block(3));
    await expect(network.write(0, block(4))).rejects.toThrow('the lease of this device is with local');
    await lease.move('local');
  });

  it('moves only when the writes in flight have ended, and refuses new ones until then', async () => {
    const gate = new GatedDisk(4096);
    const lease = new LeaseArbiter(gate, ['network', 'local']);
    const [network, local] = [lease.side('network'), lease.side('local')];
    const write = network.write(0, block(1));
    let moved = false;
    const move = lease.move('local').then(() => (moved = true));
    await expect(network.write(512, block(1))).rejects.toThrow('being moved');
    await expect(local.write(0, block(2))).rejects.toThrow('the lease of this device is with network');
    await expect(lease.move('network')).rejects.toThrow('being moved');
    expect(moved).toBe(false);
    gate.open();
    await write;
    await move;
    await local.write(0, block(2));
  });

  it('knows its sides, and leaves the device open when a side is closed', async () => {
    const device = new MemoryDevice(4096);
    const lease = new LeaseArbiter(device, ['network', 'local'], 'local');
    expect(() => lease.side('other')).toThrow('give one of network, local');
    await expect(lease.move('other')).rejects.toThrow('does not have this device');
    await lease.side('network').close();
    await lease.side('local').write(0, block(1));
  });

  it('does not move to a side that has disconnected, and reports that it is moving', async () => {
    const gate = new GatedDisk(4096);
    const lease = new LeaseArbiter(gate, ['network', 'local']);
    const write = lease.side('network').write(0, block(1));
    const move = lease.move('local');
    expect(lease.moving).toBe(true);
    expect(lease.join('late')).toBe(false);
    lease.leave('local');
    gate.open();
    await write;
    await expect(move).rejects.toThrow(/"local" does not have this device/);
    expect([lease.holder, lease.moving]).toEqual(['network', false]);
  });
});
