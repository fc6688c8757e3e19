/**
 * Commands that take longer than the guest waits. Linux gives each 30 s; then it resets the drive
 * and repeats the command. The guest must get no error, and a command that it has given up must not
 * change the disk after a newer one. One boot has a drive of each bus; the far disks answer late.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { chooseGuest, createComputer, startGuest } from '../../src/app/computer/start.js';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import type { WriteOptions } from '../../src/block/device.js';
import type { DriveBus } from '../../src/computer/drives.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const memory = 160 << 20;
const log = { log: () => undefined };
const block = 4096;
const first = 100;
const second = 200;

/**
 * A disk that takes the first write of each of two blocks, and carries it out late. The second
 * block's write is answered 12 s after the first block's.
 */
class LateDisk extends MemoryDevice {
  readonly #seen = new Set<number>();
  #firstEnded!: () => void;
  readonly #first = new Promise<void>((resolve) => (this.#firstEnded = resolve));

  override async write(offset: number, from: Buffers, options: WriteOptions = {}): Promise<void> {
    const number = offset / block;
    const late = (number === first || number === second) && !this.#seen.has(number);
    if (!late) return super.write(offset, from, options);
    this.#seen.add(number);
    const sent = new Uint8Array(from.length);
    from.copyTo(sent, 0);
    if (number === second) await this.#first.then(() => sleep(12_000));
    else await sleep(33_000);
    await super.write(offset, buffersOf(sent));
    if (number === first) this.#firstEnded();
  }
}

it('commands that are answered after the guest has given them up end without an error, and land on no newer data', async () => {
  const disks = (['nvme', 'ahci', 'ide'] as const).map((bus: DriveBus) => ({ bus, device: new LateDisk(8 << 20) }));
  const guest = await chooseGuest({ ahci: true, ide: true, log });
  const computer = await createComputer(disks, memory, { log });
  onTestFinished(() => computer.stop());
  await startGuest(computer, guest, undefined, memory);
  const run = async (command: string) => (await computer.console.run(command, 200_000)).output;
  const found = 'set -- $(ls -d /sys/block/nvme* /sys/block/sd* 2>/dev/null)';
  await run(`i=0; until ${found}; [ $# -ge 3 ] || [ $i -ge 90 ]; do i=$((i+1)); sleep 1; done`);
  const names = (await run("grep -l . /sys/block/*/size | cut -d/ -f4 | grep -E '^(nvme|sd)'"))
    .split(/\s+/)
    .filter(Boolean);
  expect(names.length, names.join()).toBe(3);

  // Each letter fills a block. "Newer" data is written as soon as the first write has ended.
  const put =
    'put() { tr "\\0" $1 < /dev/zero | dd of=/dev/$2 bs=4096 count=1 seek=$3 iflag=fullblock oflag=direct conv=notrunc 2>&1 ' +
    '|| echo no $1 on $2; };';
  const use = `use() { (put a $1 ${first}; put n $1 ${first}) & sleep 8; put b $1 ${second}; wait; };`;
  const all = names.map((name) => `use ${name} &`).join(' ');
  const output = await run(`dmesg -n 1; ${put} ${use} { ${all} wait; } | grep -E '^(dd|no)'; echo all ended`);
  const kernelLog = await run('dmesg | tail -60');
  expect(output.trim(), kernelLog).toBe('all ended');
  expect(kernelLog, 'the guest did not wait as long as it does').toMatch(/failed command|timeout, aborting/);
  expect(kernelLog).not.toMatch(/I\/O error|FAILED Result/);
  await computer.stop();
  for (const { bus, device } of disks) {
    for (const [number, letter] of [
      [first, 'n'],
      [second, 'b'],
    ] as const) {
      const data = new Uint8Array(block);
      await device.read(number * block, buffersOf(data));
      expect(Buffer.from(data).toString(), `${bus}, block ${number}`).toBe(letter.repeat(block));
    }
  }
}, 500_000);
