/**
 * A far device that grows while a guest uses it: the NVMe driver is notified (NVMe 1.4 §5.2,
 * §5.14.1.4).
 */
import { describe, expect, it } from 'vitest';
import type { BlockInfo } from '../../src/block/device.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { AdminOpcode, Cns, Feature, LogPage, NvmOpcode } from '../../src/spec/nvme.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { until } from '../support/event-loop.js';
import { NvmeDriver } from '../support/nvme-driver.js';

const MiB = 1 << 20;
const notice = 0x040002; // log page 4, namespace attribute changed, notice

/** Presents only part of a device, like an export whose file grows. */
class Growing extends VirtualIoClient {
  shown = MiB;

  constructor() {
    super(new MemoryDevice(4 * MiB));
  }

  told: () => void = () => undefined;

  override get info(): BlockInfo {
    return { ...super.info, size: this.shown };
  }

  override get watchSize() {
    return (listener: () => void) => {
      this.told = listener;
      return () => undefined;
    };
  }
}

/**
 * A driver that has enabled the wanted notices and has one event request in flight, and its disk.
 */
async function started(wanted = 1 << 8) {
  const disk = new Growing();
  const driver = new NvmeDriver(disk);
  await driver.start();
  const data = driver.allocate(4096);
  const read = () => driver.expect({ opcode: NvmOpcode.read, prp1: data, dword12: 7 }, 1);
  const blocks = async (): Promise<number> => {
    await driver.expect({ opcode: AdminOpcode.identify, nsid: 1, prp1: data, dword10: Cns.namespace });
    return Number(driver.memory.data(data, 8).getBigUint64(0, true));
  };
  const changed = async (): Promise<number> => {
    const dword10 = LogPage.changedNamespaces | (1023 << 16);
    await driver.expect({ opcode: AdminOpcode.getLogPage, prp1: data, dword10 });
    return driver.memory.data(data, 4).getUint32(0, true);
  };
  await driver.expect({
    opcode: AdminOpcode.setFeatures,
    dword10: Feature.asyncEventConfiguration,
    dword11: wanted,
  });
  const events: number[] = [];
  const again = (): void => {
    void driver.submit({ opcode: AdminOpcode.asyncEventRequest }).then(({ result }) => events.push(result));
  };
  again();
  return { disk, driver, read, blocks, changed, events, again };
}

describe('a namespace that grows', () => {
  it('is reported after the next command, and is then as long as the device', async () => {
    const { disk, read, blocks, changed, events, again } = await started();
    expect(await blocks()).toBe(MiB / 512);
    await read();
    disk.shown = 3 * MiB;
    await read();
    await read();
    expect(await changed()).toBe(1);
    expect(events).toEqual([notice]);
    expect(await blocks()).toBe((3 * MiB) / 512);
    again();
    await read();
    expect(await changed()).toBe(0);
    disk.shown = 4 * MiB;
    await read();
    expect(await changed()).toBe(1);
    expect(events).toEqual([notice, notice]);
  });

  it('is reported without a command if the device notices it', async () => {
    const { disk, blocks, changed, events } = await started();
    disk.shown = 2 * MiB;
    disk.told();
    await until(() => events.length === 1);
    expect(events).toEqual([notice]);
    expect(await changed()).toBe(1);
    expect(await blocks()).toBe((2 * MiB) / 512);
  });

  it('is not reported to a driver that has noticed it or disabled the event', async () => {
    const knows = await started();
    knows.disk.shown = 2 * MiB;
    expect(await knows.blocks()).toBe((2 * MiB) / 512);
    await knows.read();
    const deaf = await started(0);
    deaf.disk.shown = 2 * MiB;
    await deaf.read();
    for (const { changed, events } of [knows, deaf]) {
      expect(await changed()).toBe(0);
      expect(events).toEqual([]);
    }
  });

  it('is reported after a controller reset too', async () => {
    const { disk, driver, read, changed, events } = await started();
    await driver.disable();
    disk.shown = 2 * MiB;
    await driver.start();
    await driver.expect({
      opcode: AdminOpcode.setFeatures,
      dword10: Feature.asyncEventConfiguration,
      dword11: 1 << 8,
    });
    void driver.submit({ opcode: AdminOpcode.asyncEventRequest }).then(({ result }) => events.push(result));
    await read();
    expect(await changed()).toBe(1);
    expect(events).toEqual([notice]);
  });
});
