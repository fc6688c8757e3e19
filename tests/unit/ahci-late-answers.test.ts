/** Answers of a far disk that come after the driver may have given the command up. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { nextIteration } from '../support/event-loop.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const size = 1 << 20;

/** Queued writes in the slots 0 and 1, with 20 s between them. */
async function twoWrites(): Promise<{ driver: AhciDriver; medium: GatedDisk }> {
  const medium = new GatedDisk(size);
  const driver = new AhciDriver([new AtaDisk(medium, testAtaIdentity)]);
  await driver.start();
  const at = driver.allocate(8192);
  for (const slot of [0, 1]) {
    if (slot === 1) await vi.advanceTimersByTimeAsync(20_000);
    const prdt = [[at + slot * 4096, 4096]] as const;
    driver.queue(slot, { command: AtaCommand.writeFpdma, features: 8, lba: slot * 8, write: true, prdt });
  }
  return { driver, medium };
}

/** The disk answers the oldest of the writes that wait. */
async function answer(medium: GatedDisk): Promise<void> {
  medium.waiting.shift()!();
  for (let i = 0; i < 5; i++) await nextIteration();
}

it('an answer within 29 s completes its command', async () => {
  const { driver, medium } = await twoWrites();
  await vi.advanceTimersByTimeAsync(8_900);
  await answer(medium);
  expect(driver.port('sact')).toBe(2);
});

it('a late answer waits until the driver can have reset the port for its other commands', async () => {
  const { driver, medium } = await twoWrites();
  await vi.advanceTimersByTimeAsync(11_000);
  await answer(medium);
  expect(driver.port('sact')).toBe(3);
  await answer(medium);
  expect(driver.port('sact')).toBe(1);
  await vi.advanceTimersByTimeAsync(20_900);
  expect(driver.port('sact')).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(driver.port('sact')).toBe(0);
});

it('a reset ends the wait of a late answer, and the command has no completion', async () => {
  const { driver, medium } = await twoWrites();
  await vi.advanceTimersByTimeAsync(40_000);
  await answer(medium);
  expect(driver.port('sact')).toBe(3);
  driver.setPort('cmd', 0x10);
  await driver.waitPort('cmd', 0x8000, 0);
  driver.setPort('is', 0xffffffff);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(driver.port('is')).toBe(0);
});

it('a late error is reported at once: the driver repeats the command', async () => {
  const medium = new FailingDisk(size, 'io');
  const write = vi.spyOn(medium, 'write').mockImplementation(async () => {
    await new Promise((resolve) => setTimeout(resolve, 40_000));
    write.mockRestore();
    await medium.write(0, { length: 0 } as never);
  });
  const driver = new AhciDriver([new AtaDisk(medium, testAtaIdentity)]);
  await driver.start();
  const prdt = [[driver.allocate(4096), 4096]] as const;
  driver.queue(0, { command: AtaCommand.writeFpdma, features: 8, write: true, prdt });
  await vi.advanceTimersByTimeAsync(40_000);
  await driver.waitPort('tfd', 1, 1);
});
