/**
 * Stopping and continuing a computer on v86, whose ROM prints without an end, from several sides at
 * the same time: the output that cannot be written, the user, snapshots, and the computer's end.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { answerComputer } from '../../src/app/computer/control.js';
import { Media } from '../../src/app/computer/media.js';
import { createComputer } from '../../src/app/computer/start.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import type { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { ScreenConsole } from '../../src/computer/screen-console.js';
import { MemoryDevice } from '../../src/storage/memory.js';

/** mov dx, PORT; mov al, VALUE; out dx, al */
const out = (port: number, value: number) => [0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
/** Asks the first IDE disk for its sector 5, then prints: jmp to the last out. */
const program = [
  ...[1, 5, 0, 0, 0xe0, 0x20].flatMap((value, register) => out(0x1f2 + register, value)),
  ...out(0x3f8, 0x78),
  ...[0xeb, 0xfd],
];

/** A ROM of 64 KiB whose reset vector jumps to the program. */
function rom(): Uint8Array {
  const bios = new Uint8Array(1 << 16);
  bios.set(program, 0xe000);
  bios.set([0xe9, 0x0d, 0xe0], 0xfff0);
  return bios;
}

const made: ClientComputer[] = [];
afterEach(async () => {
  for (const computer of made.splice(0)) await computer.stop();
});

/** A computer that prints, and a function that resolves when it has printed again. */
async function printer(drives: readonly ClientDrive[] = []) {
  const computer = await createComputer(drives, 1 << 20, { log: silent, firmware: { bios: rom() } });
  made.push(computer);
  let printed = 0;
  computer.onSerial(() => printed++);
  const prints = async (): Promise<void> => {
    const before = printed;
    while (printed === before) await turn();
  };
  const standsStill = async (): Promise<boolean> => {
    const before = printed;
    for (let i = 0; i < 50; i++) await turn();
    return printed === before;
  };
  return { computer, prints, standsStill };
}

it('goes on when its output was held and released at once, and can be resumed, paused and saved then', async () => {
  const { computer, prints, standsStill } = await printer();
  computer.bootFirmware();
  await prints();
  for (let i = 0; i < 3; i++) {
    computer.hold();
    computer.release();
  }
  await computer.resume();
  await prints();
  await computer.pause();
  expect(await standsStill()).toBe(true);
  await computer.save('k');
  expect(await standsStill()).toBe(true);
  await computer.resume();
  await prints();
});

it('obeys the last of several requests that come at the same time', async () => {
  const { computer, prints, standsStill } = await printer();
  computer.bootFirmware();
  await prints();
  await Promise.all([computer.pause(), computer.resume(), computer.pause()]);
  expect([computer.paused, await standsStill()]).toEqual([true, true]);
  await Promise.all([computer.resume(), computer.save('k'), computer.pause(), computer.resume()]);
  expect(computer.paused).toBe(false);
  await prints();
});

it('is not saved before it has started, nor when it ends meanwhile', async () => {
  const { computer, prints } = await printer();
  await expect(computer.save('k')).rejects.toThrow('it has not started yet');
  computer.bootFirmware();
  await prints();
  const saved = computer.save('k');
  const ended = computer.stop();
  await expect(saved).rejects.toThrow('the computer ends');
  await ended;
});

it('goes on when the wait of a snapshot for a command in flight is given up', async () => {
  const far = new FaultFilter(new MemoryDevice(1 << 20));
  const { computer, prints, standsStill } = await printer([{ device: far, bus: 'ide' }]);
  const stalled = far.add({ on: ['read'], range: { offset: 5 * 512, length: 512 }, action: 'stall', count: 1 });
  computer.bootFirmware();
  while (stalled.hits === 0) await prints();
  const giveUp = new AbortController();
  const saved = computer.save('k', { signal: giveUp.signal });
  while (!(await standsStill())) await turn();
  giveUp.abort(new Error('withdrawn'));
  await expect(saved).rejects.toThrow('withdrawn');
  await prints();
  far.release();
  await computer.save('k');
});

it('types the texts of two callers one after the other, and nothing of a text with an unknown key', async () => {
  const sent: number[] = [];
  const screen = new ScreenConsole({ sendKeys: (codes: readonly number[]) => sent.push(...codes) } as never);
  const none = () => Promise.resolve('');
  const media = { drives: [], eject: none, insert: none, attach: none, detach: none };
  const parts = { computer: { screen } as never, media, usesScreen: true };
  const type = (text: string, signal = new AbortController().signal) =>
    answerComputer({ command: 'type', text }, parts, { signal, waitsFor: () => undefined });
  await type('ab');
  await type('cd');
  const inTurn = sent.splice(0);
  await Promise.all([type('ab'), type('cd')]);
  expect(sent.splice(0)).toEqual(inTurn);
  await expect(type('ab<bad>')).rejects.toThrow('there is no key <bad>');
  await expect(type('ab', AbortSignal.abort(new Error('withdrawn')))).rejects.toThrow('withdrawn');
  expect(sent).toEqual([]);
  await Promise.all([type('ab'), type('cd')]);
  expect(sent).toEqual(inTurn);
});

it('closes a disk that is being attached when the computer ends', async () => {
  const media = new Media([{ device: undefined, bus: 'ahci', kind: 'disk' }], { log: silent });
  let attached: (device: BlockDevice) => void = () => undefined;
  const inPort = new Promise<BlockDevice>((resolve) => (attached = resolve));
  let goOn: () => void = () => undefined;
  const attach = (_: number, device: BlockDevice) => {
    attached(device);
    return new Promise<void>((resolve) => (goOn = resolve));
  };
  media.setComputer({ ahci: { mediumOf: () => undefined, attach } } as never);
  const attaching = media.attach(0, 'memory:1M', new AbortController().signal).catch(() => undefined);
  const device = await inPort;
  await media.close();
  goOn();
  await attaching;
  await expect(device.read(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'closed' });
});

it('types only a text', async () => {
  const { computer } = await printer();
  const none = () => Promise.resolve('');
  const media = { drives: [], eject: none, insert: none, attach: none, detach: none };
  const { signal } = new AbortController();
  const work = { signal, waitsFor: () => undefined };
  for (const text of [undefined, 5, null]) {
    const typed = answerComputer({ command: 'type', text }, { computer, media, usesScreen: true }, work);
    await expect(typed).rejects.toThrow('text: expected the keys');
  }
});
