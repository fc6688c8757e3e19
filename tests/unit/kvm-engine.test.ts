/**
 * The KVM engine with guests of a few instructions, without paging, which any KVM runs. The engine
 * starts threads from its built files, so a program outside of the tests runs it.
 *
 * Not here: operating systems (tests/boot/kvm.test.ts).
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { machineCalls } from '../../src/linux/virtual-machine.node.js';
import { requireKoffi, type Call } from '../../src/linux/koffi.node.js';
import { hasKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';

const dist = new URL('../../dist', import.meta.url).href;

function usable(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return hasKoffi && process.arch === 'x64';
  } catch {
    return false;
  }
}

interface Outcome {
  readonly why: string;
  readonly exits: { readonly memory: number; readonly port: number };
  readonly told: number;
  /** Numbers of mappings of KVM's files before the engine was created, meanwhile and at its end. */
  readonly maps: readonly number[];
  readonly traps: readonly string[];
}

/** Runs code until the guest asks for a reset. One function is at 0xfe000000, and watched at 8. */
function runGuest(code: readonly number[]): Outcome {
  const program = `
    import { readFileSync } from 'node:fs';
    import { Steps } from '${dist}/base/steps.js';
    import { createKvm } from '${dist}/machine/engines/kvm/kvm.node.js';
    import { TrapHandler } from '${dist}/machine/trap.js';
    const maps = [];
    const count = () => maps.push(readFileSync('/proc/self/maps', 'utf8').split('kvm-vcpu').length - 1);
    count();
    const traps = [];
    const trap = new TrapHandler(new Steps());
    trap.guard({
      name: 'x', base: 0xfe000000, size: 0x1000, issuesCommand: () => false, read: () => 0,
      write: (offset, size, value) => traps.push(offset + ' ' + value),
    });
    let told = 0;
    let end;
    const ended = new Promise((resolve) => (end = resolve));
    const engine = await createKvm({ memorySize: 64 << 20, processors: 2, trap, onEnd: end });
    count();
    const config = new Uint8Array(256);
    config[4] = 2;
    new DataView(config.buffer).setUint32(0x10, 0xfe000000, true);
    const { writeEvents } = engine.addPci({ name: 'x', slot: 8, config, barBase: 0xfe000000, barSize: 0x1000 });
    writeEvents.watch([4, 8], () => told++);
    writeEvents.watch([8], () => told++);
    const code = ${JSON.stringify(code)};
    engine.memory.view(0x200000, code.length).set(code);
    engine.enter({ instructionPointer: 0x200000, esi: 0, esp: 0x9000 });
    engine.start();
    const why = await ended;
    await new Promise((resolve) => setTimeout(resolve, 0));
    const { exits } = engine;
    await engine.stop();
    count();
    console.log(JSON.stringify({ why, exits, told: Math.min(told, 1), maps, traps }));`;
  const file = tempPath('program.mjs');
  writeFileSync(file, program);
  return JSON.parse(execFileSync(process.execPath, [file]).toString()) as Outcome;
}

/** Writes a double word at an address, by the guest's code. */
const write = (address: number, value: number) => [
  ...[0xc7, 0x05],
  ...[address, value].flatMap((number) => [0, 8, 16, 24].map((shift) => (number >>> shift) & 0xff)),
];
const reset = [0xb0, 0xfe, 0xe6, 0x64, 0xf4]; // mov al, 0xfe; out 0x64, al; hlt
const moveBar = [
  ...[0x66, 0xba, 0xf8, 0x0c], // mov dx, 0xcf8
  ...[0xb8, 0x10, 0x40, 0x00, 0x80], // mov eax, slot 8, BAR 0
  ...[0xef, 0x66, 0xba, 0xfc, 0x0c], // out dx, eax; mov dx, 0xcfc
  ...[0xb8, 0x00, 0x00, 0x10, 0xfe, 0xef], // mov eax, 0xfe100000; out dx, eax
];

describe.skipIf(!usable())('the KVM engine', () => {
  it('takes watched writes without an exit, and all others by the trap', () => {
    const { why, exits, told, traps } = runGuest([
      ...write(0xfe000008, 1),
      ...write(0xfe000008, 2),
      ...write(0xfe000004, 3),
      ...reset,
    ]);
    expect({ why, told, traps }).toEqual({ why: 'reset', told: 1, traps: ['4 3'] });
    expect(exits).toMatchObject({ memory: 1, port: 1 });
  });

  it('watches at the new place when the guest moves the BAR', () => {
    const moved = runGuest([...moveBar, ...write(0xfe100008, 1), ...write(0xfe100004, 3), ...reset]);
    expect(moved).toMatchObject({ told: 1, traps: ['4 3'] });
    const left = runGuest([...moveBar, ...write(0xfe000008, 1), ...reset]);
    expect(left).toMatchObject({ told: 0, traps: [] });
  });

  it('leaves no mapping behind', () => {
    expect(runGuest(reset).maps).toEqual([0, 4, 0]);
  });

  it('says in one line that there is too little memory, or no KVM any more', () => {
    const file = tempPath('create.mjs');
    writeFileSync(
      file,
      `import { createComputer } from '${dist}/app/computer/start.js';
      const options = { log: { log: () => undefined }, engine: 'kvm' };
      const computer = createComputer([], Number(process.argv[2]), options);
      console.log(await computer.then(() => 'created', (error) => error.name + ': ' + error.message));
      process.exit();`,
    );
    const create = (memory: number, before = '') =>
      execFileSync('unshare', ['-rm', 'sh', '-c', `${before} node ${file} ${memory}`], { encoding: 'utf8' }).trim();
    expect(create(2 ** 47)).toBe('FarbusError: this computer cannot give 128 TiB of memory to a guest: take less');
    // Another device in its place is as good as none.
    expect(create(64 << 20, 'mount --bind /dev/null /dev/kvm;')).toMatch(
      /^FarbusError: KVM cannot be used: .*ENOTTY.*; --engine v86 works everywhere$/,
    );
  });
});

it.skipIf(!hasKoffi || process.arch !== 'x64')('a time limit ends a system call that does not return', () => {
  const poll = requireKoffi('the test').load(null).func('int poll(void *, ulong, int)') as Call;
  machineCalls().armKick();
  const stop = machineCalls().interruptAfter(20);
  try {
    expect(poll(null, 0, 60_000)).toBe(-1); // 0 is the end of its own time
  } finally {
    stop();
  }
});
