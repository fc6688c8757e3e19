/**
 * Snapshots of the KVM engine, with guests of a few instructions, without paging, which any KVM
 * runs. The engine starts threads from its built files, so a program outside of the tests runs it.
 *
 * Not here: the file (snapshot.test.ts), operating systems (tests/boot/kvm.test.ts).
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
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

/** Functions for the programs: a machine with one function, whose reads are counted. */
const prelude = `
  import { Steps } from '${dist}/base/steps.js';
  import { createKvm } from '${dist}/machine/engines/kvm/kvm.node.js';
  import { TrapHandler } from '${dist}/machine/trap.js';
  const counts = { reads: 0 };
  let onRead = () => undefined;
  const sent = [];
  async function machine({ memorySize = 64 << 20, processors = 2, slot = 8, firmware } = {}) {
    const trap = new TrapHandler(new Steps());
    trap.guard({
      name: 'x', base: 0xfe000000, size: 0x4000, issuesCommand: () => false,
      read: () => {
        if (++counts.reads % 512 === 0) onRead();
        return 0;
      },
      write: () => undefined,
    });
    let end;
    const ended = new Promise((resolve) => (end = resolve));
    const engine = await createKvm({ memorySize, processors, trap, firmware, onEnd: (why, detail) => end([why, detail]) });
    const config = new Uint8Array(256);
    config[4] = 2;
    new DataView(config.buffer).setUint32(0x10, 0xfe000000, true);
    const msix = { vectors: 3, tableOffset: 0x2000, pendingOffset: 0x3000 };
    engine.addPci({ name: 'x', slot, config, barBase: 0xfe000000, barSize: 0x4000, msix });
    engine.onSerial((byte) => sent.push(byte));
    return { engine, ended };
  }
  function load({ engine }, code) {
    engine.memory.view(0x200000, code.length).set(code);
    engine.enter({ instructionPointer: 0x200000, esi: 0, esp: 0x9000 });
    engine.start();
  }
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const word = ({ engine }, at) => new DataView(engine.memory.view(at, 4).slice().buffer).getUint32(0, true);
`;

/** Runs a program that prints one line of JSON. */
function run(program: string): unknown {
  const file = tempPath('program.mjs');
  writeFileSync(file, prelude + program);
  return JSON.parse(execFileSync(process.execPath, [file]).toString());
}

const rounds = 40_000;
/**
 * Counts in ECX the reads of the function's register, and leaves the count at 0x300000. At the end,
 * sends it to the serial port and asks for a reset.
 */
const counting = [
  ...[0xa1, 0x00, 0x00, 0x00, 0xfe], // mov eax, [0xfe000000]
  0x41, // inc ecx
  ...[0x89, 0x0d, 0x00, 0x00, 0x30, 0x00], // mov [0x300000], ecx
  ...[0x81, 0xf9, rounds & 0xff, rounds >> 8, 0x00, 0x00], // cmp ecx, rounds
  ...[0x72, 0xec], // jb to the start
  ...[0xb0, 0xfe, 0xe6, 0x64, 0xf4], // mov al, 0xfe; out 0x64, al; hlt
];

const word = (value: number) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
/** mov dword [address], value */
const write = (address: number, value: number) => [0xc7, 0x05, ...word(address), ...word(value)];
/** mov eax, [address]; mov [to], eax */
const copy = (address: number, to: number) => [0xa1, ...word(address), 0xa3, ...word(to)];
const configAddress = (register: number) => [
  ...[0x66, 0xba, 0xf8, 0x0c], // mov dx, 0xcf8
  ...[0xb8, ...word(0x80004000 + register)], // mov eax, slot 8
  ...[0xef, 0x66, 0xba, 0xfc, 0x0c], // out dx, eax; mov dx, 0xcfc
];
/** mov dx, 0x3f8; in al, dx; out dx, al */
const echo = [0x66, 0xba, 0xf8, 0x03, 0xec, 0xee];
/**
 * Sets the command register, and the message of MSI-X vector 1; and tells at 0x300000. After a word
 * at 0x300004, leaves both at 0x300010, sends back three bytes of the serial port, and resets.
 */
const settingUp = [
  ...configAddress(4),
  ...[0xb8, ...word(6), 0xef], // mov eax, 6; out dx, eax
  ...write(0xfe002018, 0x4021),
  ...write(0x300000, 1),
  ...[0x83, 0x3d, ...word(0x300004), 0x00, 0x74, 0xf7], // cmp dword [0x300004], 0; je to itself
  ...configAddress(4),
  ...[0xed, 0x25, ...word(0xffff)], // in eax, dx; and eax, 0xffff
  ...[0xa3, ...word(0x300010)], // mov [0x300010], eax
  ...copy(0xfe002018, 0x300014),
  ...[...echo, ...echo, ...echo],
  ...[0xb0, 0xfe, 0xe6, 0x64, 0xf4],
];
/** mov byte cs:[at], value, in 16-bit code */
const writeFlash = (at: number, value: number) => [0x2e, 0xc6, 0x06, at & 0xff, at >> 8, value];
/** mov al, cs:[at]; out dx, al */
const sendFlash = (at: number) => [0x2e, 0xa0, at & 0xff, at >> 8, 0xee];
/**
 * Firmware of one page below two pages of flash. Programs a byte and asks for the status; sends "a"
 * and waits for a byte on the serial port; sends the status and the byte, and resets.
 */
const programming = [
  ...[...writeFlash(0xd010, 0x10), ...writeFlash(0xd010, 0x5a), ...writeFlash(0xd010, 0x70)],
  ...[0xba, 0xf8, 0x03, 0xb0, 0x61, 0xee], // mov dx, 0x3f8; mov al, 'a'; out dx, al
  ...[0xba, 0xfd, 0x03], // mov dx, 0x3fd
  ...[0xec, 0xa8, 0x01, 0x74, 0xfb], // in al, dx; test al, 1; jz to in
  ...[0xba, 0xf8, 0x03, 0xec], // mov dx, 0x3f8; in al, dx
  ...[...sendFlash(0xd010), ...writeFlash(0xd010, 0xff), ...sendFlash(0xd010)],
  ...[0xb0, 0xfe, 0xe6, 0x64, 0xf4],
];
const fuzzRounds = process.env['FARBUS_TEST_ALL'] ? 1000 : 20;

describe.skipIf(!usable())('a snapshot of a machine on KVM', () => {
  it('continues in a new machine, with no instruction lost or done twice', () => {
    const found = run(`
      let now = await machine();
      load(now, ${JSON.stringify(counting)});
      const at = [];
      for (let i = 0; i < 8; i++) {
        // Held within an exit: the instruction has not ended when the read is answered.
        const { engine } = now;
        await new Promise((resolve) => {
          onRead = () => {
            void engine.pause();
            setImmediate(resolve);
          };
        });
        onRead = () => undefined;
        await now.engine.pause();
        const state = await now.engine.snapshots.save();
        at.push(word(now, 0x300000));
        await now.engine.stop();
        now = await machine();
        await now.engine.snapshots.restore(state);
        now.engine.start();
      }
      const [why] = await now.ended;
      console.log(JSON.stringify({ why, reads: counts.reads, counted: word(now, 0x300000), at }));
      await now.engine.stop();`) as { why: string; reads: number; counted: number; at: number[] };
    expect(found).toMatchObject({ why: 'reset', reads: rounds, counted: rounds });
    expect(found.at).toEqual([...found.at].sort((a, b) => a - b));
    expect(found.at.at(-1)).toBeGreaterThan(0);
  });

  it('holds the board: serial port, PCI configuration and MSI-X, and memory on both sides of the hole', () => {
    const found = run(`
      const GiB = 2 ** 30;
      const sizes = { memorySize: 4 * GiB, processors: 1 };
      const first = await machine(sizes);
      const { memory } = first.engine;
      memory.view(3 * GiB - 1, 1)[0] = 1;
      memory.view(4 * GiB, 1)[0] = 2;
      memory.view(5 * GiB - 1, 1)[0] = 3;
      load(first, ${JSON.stringify(settingUp)});
      while (word(first, 0x300000) === 0) await sleep(1);
      await first.engine.sendSerial(Buffer.from('xyz'));
      await first.engine.pause();
      const state = await first.engine.snapshots.save();
      await first.engine.stop();
      const second = await machine(sizes);
      await second.engine.snapshots.restore(state);
      const at = (address) => second.engine.memory.view(address, 1)[0];
      const bytes = [3 * GiB - 1, 4 * GiB, 4 * GiB + 1, 5 * GiB - 1].map(at);
      second.engine.memory.view(0x300004, 1)[0] = 1;
      second.engine.start();
      const [why] = await second.ended;
      console.log(JSON.stringify({
        why, bytes, size: state.length, command: word(second, 0x300010), vector: word(second, 0x300014),
        sent: Buffer.from(sent).toString(),
      }));
      await second.engine.stop();`) as { size: number };
    const command = 0x0006; // memory accesses and bus master
    expect(found).toMatchObject({ why: 'reset', bytes: [1, 2, 0, 3], command, vector: 0x4021, sent: 'xyz' });
    expect(found.size).toBeLessThan(1 << 20);
  });

  it("holds the flash with UEFI's variables", () => {
    const found = run(`
      const bios = new Uint8Array(4096);
      bios.set(${JSON.stringify(programming)});
      bios.set([0xe9, 0x0d, 0xf0], 0xff0); // the reset vector: jmp to the start
      const kept = [];
      const uefi = (size) => {
        const content = new Uint8Array(size).fill(0xff);
        return { firmware: { bios, variables: { content, changed: (bytes) => kept.push(bytes[0x10]) } } };
      };
      const first = await machine(uefi(8192));
      first.engine.enterFirmware([]);
      first.engine.start();
      while (sent.length === 0) await sleep(1);
      await first.engine.pause();
      const state = await first.engine.snapshots.save();
      await first.engine.stop();
      const errors = [];
      for (const other of [uefi(4096), { firmware: { bios } }]) {
        const next = await machine(other);
        errors.push(await next.engine.snapshots.restore(state).then(() => 'taken', (error) => error.message));
        await next.engine.stop();
      }
      kept.length = 0;
      const second = await machine(uefi(8192));
      await second.engine.snapshots.restore(state);
      second.engine.start();
      await second.engine.sendSerial(Buffer.from('b'));
      const [why] = await second.ended;
      console.log(JSON.stringify({ why, sent, kept, errors }));
      await second.engine.stop();`);
    const other = 'it is of a computer with other devices';
    expect(found).toEqual({ why: 'reset', sent: [0x61, 0x80, 0x5a], kept: [0x5a], errors: [other, other] });
  });

  it('is refused, before anything is changed, if it is damaged or of another processor or machine', () => {
    const found = run(`
      const first = await machine();
      load(first, ${JSON.stringify(counting)});
      await sleep(5);
      await first.engine.pause();
      const state = await first.engine.snapshots.save();
      const { ended } = first;
      await first.engine.stop();
      const text = Buffer.from(state).toString('latin1');
      const changed = (from, to) => Buffer.from(text.replace(from, to), 'latin1');
      const features = /"features":"(....)/.exec(text)[1];
      const cases = {
        name: [changed(/"name":"./, '"name":"#'), {}],
        features: [changed('"features":"' + features, '"features":"' + features.split('').reverse().join('')), {}],
        processors: [state, { processors: 1 }],
        memory: [state, { memorySize: 128 << 20 }],
        empty: [new Uint8Array(0), {}],
        short: [state.subarray(0, state.length - 1), {}],
        long: [Buffer.concat([state, Buffer.alloc(1)]), {}],
        text: [changed('"clock":"', '"clock":"AAAA'), {}],
        slot: [state, { slot: 9 }],
      };
      const found = {};
      for (const [name, [bytes, sizes]] of Object.entries(cases)) {
        const next = await machine(sizes);
        found[name] = await next.engine.snapshots.restore(bytes).then(() => 'taken', (error) => error.fault ?? error.message);
        await next.engine.stop();
      }
      console.log(JSON.stringify(found));`);
    expect(found).toEqual({
      name: 'other',
      features: 'other',
      processors: 'damaged',
      memory: 'damaged',
      empty: 'damaged',
      short: 'damaged',
      long: 'damaged',
      text: 'damaged',
      slot: 'it is of a computer with other devices',
    });
  });

  it('that an enemy has made is refused, or makes a guest that ends or can be ended', () => {
    const found = run(`
      import { Random } from '${dist}/conformance/random.js';
      const first = await machine();
      load(first, ${JSON.stringify(counting)});
      await sleep(5);
      await first.engine.pause();
      const state = await first.engine.snapshots.save();
      await first.engine.stop();
      const length = new DataView(state.buffer, state.byteOffset).getUint32(0);
      const json = JSON.parse(Buffer.from(state.subarray(4, 4 + length)).toString());
      const rest = state.subarray(4 + length);
      const random = new Random(5);
      const odd = [null, -1, 2 ** 53, 1.5, 'AAAA', '', [], {}, true, 0xffffffff, 0];
      const pick = (list) => list[random.below(list.length)];
      // Changes one value somewhere; bytes in base64 mostly keep their length.
      const change = (value) => {
        if (typeof value === 'string' && value.length > 8 && random.below(4) > 0) {
          const bytes = Buffer.from(value, 'base64');
          for (let i = 0; i <= random.below(8); i++) bytes[random.below(bytes.length)] = random.below(256);
          return bytes.toString('base64');
        }
        if (value === null || typeof value !== 'object' || random.below(12) === 0) return pick(odd);
        const key = pick(Object.keys(value));
        if (key === undefined) return value;
        const copy = Array.isArray(value) ? [...value] : { ...value };
        copy[key] = change(value[key]);
        return copy;
      };
      const results = { refused: 0, run: 0 };
      for (let round = 0; round < ${fuzzRounds}; round++) {
        let bad = json;
        for (let i = 0; i <= random.below(3); i++) bad = change(bad);
        // The features and the name are compared only.
        if (bad !== null && typeof bad === 'object') bad = { ...bad, host: json.host };
        const text = Buffer.from(JSON.stringify(bad));
        const head = Buffer.alloc(4);
        head.writeUInt32BE(text.length);
        const next = await machine();
        try {
          await next.engine.snapshots.restore(Buffer.concat([head, text, rest]));
          next.engine.start();
          await Promise.race([next.ended, sleep(3)]);
          results.run++;
        } catch (error) {
          if (!['SnapshotError', 'FarbusError'].includes(error.name)) throw error;
          results.refused++;
        }
        await next.engine.stop();
      }
      console.log(JSON.stringify(results));`) as { refused: number; run: number };
    expect(found.refused).toBeGreaterThan(0);
    expect(found.run).toBeGreaterThan(0);
  }, 600_000);
});
