/**
 * Finds out whether this computer's KVM can run an operating system, by a small guest of our own:
 * 64-bit code with paging that uses SSE, cmpxchg16b, xrstor and int3, and counts.
 *
 * Some clouds offer a KVM that pages in software and interprets the guest's instructions. It is
 * hundreds of times slower, and fails at instructions that it does not know.
 */
import { accessSync, closeSync, constants, existsSync } from 'node:fs';
import { errnoOf, messageOf } from '../../../base/errors.js';
import { Exit, Regs, Request, Run, Sregs, apiVersion } from './abi.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { supportedCpuid } from './cpuid.node.js';
import { openKvm, untilUninterrupted } from './system.node.js';

/** True, or the reason in words that complete "KVM cannot be used: ". */
export type KvmState = true | string;

/** Guest-physical addresses of the guest's parts. */
const At = {
  code: 0x1000,
  handler: 0x1100,
  pair: 0x3000,
  xsave: 0x4000,
  mark: 0x5000,
  idt: 0x6000,
  tables: 0x8000,
  stack: 0x7ff0,
};
const memorySize = 1 << 20;
const donePort = 0xf4;
const doneValue = 0x2a;
/** Rounds of the guest's loop. A processor needs 0.1 ms for them, an interpreter 100 ms. */
const rounds = 100_000;
/** Longest time for them, in ms. Chosen between both; an emulated processor has a fixed cost. */
const longestMs = 40;
/** Least number of tries: this computer may be busy. */
const tries = 3;
/** Time in which there are further tries, in ms. */
const triesMs = 100;
/** A KVM whose guest has not come back by then does not work, in ms. */
const hangMs = 1000;

/** True if this computer has the device of KVM, usable or not. */
export function hasKvmDevice(): boolean {
  return existsSync('/dev/kvm');
}

/**
 * Runs the small guest. Takes some milliseconds; at most 200 ms with an interpreting KVM, and 1 s
 * if the guest does not come back.
 */
export function probeKvm(): KvmState {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'it is for Linux on x86-64';
  if (!hasKvmDevice()) return 'there is no /dev/kvm here';
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'no permission for /dev/kvm: add yourself to the group kvm';
  }
  try {
    return probe();
  } catch (error) {
    return `it does not work (${errnoOf(error) ?? messageOf(error)})`;
  }
}

function probe(): KvmState {
  const system = machineCalls();
  const kvm = openKvm();
  const open = [kvm];
  let page: Uint8Array | undefined;
  try {
    if (system.control(kvm, Request.getApiVersion, 0) !== apiVersion) return 'its version is unknown';
    const vm = untilUninterrupted(() => system.control(kvm, Request.createVm, 0));
    open.push(vm);
    const memory = guestMemory();
    mapMemory(vm, memory);
    const vcpu = system.control(vm, Request.createVcpu, 0);
    open.push(vcpu);
    system.exchange(vcpu, Request.setCpuid2, supportedCpuid(kvm));
    page = system.map(vcpu, system.control(kvm, Request.getVcpuMmapSize, 0));
    const run = new DataView(page.buffer, page.byteOffset, page.byteLength);
    let best = Infinity;
    let slow = 0;
    const began = performance.now();
    for (let i = 0; best > longestMs && (i < tries || performance.now() - began < triesMs); i++) {
      memory[At.mark] = 0;
      memory.fill(0, At.pair, At.pair + 16);
      enterLong(vcpu);
      const started = performance.now();
      if (!runBounded(vcpu)) return 'its guest does not come back';
      best = Math.min(best, performance.now() - started);
      const done = run.getUint32(Run.exitReason, true) === Exit.io && run.getUint16(Run.ioPort, true) === donePort;
      const value = done ? run.getUint8(Number(run.getBigUint64(Run.ioDataOffset, true))) : 0;
      if (value !== doneValue || memory[At.mark] !== 1 || memory[At.pair] !== 0x55) {
        return 'it interprets instructions, and does not know all of them';
      }
      // Once may be a busy computer.
      if (performance.now() - started > 100 && ++slow === 2) break;
    }
    return best > longestMs ? 'it pages in software, which is slower than the other engine' : true;
  } finally {
    if (page) system.unmap(page);
    for (const fd of open.reverse()) closeSync(fd);
  }
}

/** Runs the guest until its next exit. Returns false if there is none within {@link hangMs}. */
function runBounded(vcpu: number): boolean {
  const system = machineCalls();
  system.armKick();
  const started = performance.now();
  const stop = system.interruptAfter(hangMs);
  try {
    for (;;) {
      try {
        system.control(vcpu, Request.run, 0);
        return true;
      } catch (error) {
        // Other signals of this process interrupt the call too.
        if (errnoOf(error) !== 'EINTR') throw error;
        if (performance.now() - started >= hangMs) return false;
      }
    }
  } finally {
    stop();
  }
}

/** The guest's memory with its code, page tables and interrupt table. */
function guestMemory(): Uint8Array {
  const block = new SharedArrayBuffer(memorySize + 4096);
  const misplaced = Number(machineCalls().addressOf(new Uint8Array(block, 0, 1)) % 4096n);
  const memory = new Uint8Array(block, (4096 - misplaced) % 4096, memorySize);
  const view = new DataView(block, memory.byteOffset, memorySize);
  memory.set(code, At.code);
  memory.set(handler, At.handler);
  // One page of 2 MiB at address 0 (Intel SDM vol. 3, §4.5): present, writable; the last has the
  // size bit.
  view.setBigUint64(At.tables, BigInt(At.tables + 0x1000) | 3n, true);
  view.setBigUint64(At.tables + 0x1000, BigInt(At.tables + 0x2000) | 3n, true);
  view.setBigUint64(At.tables + 0x2000, 0x83n, true);
  // Vector 3, int3 (§6.14.1): a 64-bit interrupt gate to the handler in the code segment.
  view.setUint16(At.idt + 48, At.handler, true);
  view.setUint16(At.idt + 50, 8, true);
  view.setUint16(At.idt + 52, 0x8e00, true);
  // The code segment's descriptor, which iretq reads, and the data segment's.
  view.setBigUint64(At.idt + 0x808, 0x00af9b000000ffffn, true);
  view.setBigUint64(At.idt + 0x810, 0x00cf93000000ffffn, true);
  return memory;
}

const code = Uint8Array.of(
  ...[0x0f, 0x28, 0xc1], // movaps xmm0, xmm1
  ...[0xf0, 0x48, 0x0f, 0xc7, 0x0f], // lock cmpxchg16b [rdi]
  ...[0x31, 0xd2], // xor edx, edx
  ...[0xb8, 0x01, 0x00, 0x00, 0x00], // mov eax, 1
  ...[0x0f, 0xae, 0x2e], // xrstor [rsi]
  0xcc, // int3
  ...[0xb9, rounds & 0xff, (rounds >> 8) & 0xff, rounds >> 16, 0x00], // mov ecx, rounds
  ...[0xff, 0xc9], // dec ecx
  ...[0x75, 0xfc], // jnz to the line before
  ...[0xb0, doneValue], // mov al, doneValue
  ...[0xe6, donePort], // out donePort, al
  0xf4, // hlt
);

const handler = Uint8Array.of(
  ...[0xc6, 0x04, 0x25, 0x00, At.mark >> 8, 0x00, 0x00, 0x01], // mov byte [mark], 1
  ...[0x48, 0xcf], // iretq
);

function mapMemory(vm: number, memory: Uint8Array): void {
  const region = new DataView(new ArrayBuffer(32));
  region.setBigUint64(16, BigInt(memory.length), true);
  region.setBigUint64(24, machineCalls().addressOf(memory), true);
  machineCalls().exchange(vm, Request.setUserMemoryRegion, new Uint8Array(region.buffer));
}

/** Puts the processor into 64-bit mode with paging, at the guest's code. */
function enterLong(vcpu: number): void {
  const system = machineCalls();
  const bytes = new Uint8Array(Sregs.size);
  system.exchange(vcpu, Request.getSregs, bytes);
  const sregs = new DataView(bytes.buffer);
  const segment = (at: number, selector: number, type: number, long: number) => {
    sregs.setBigUint64(at, 0n, true);
    sregs.setUint32(at + 8, 0xffffffff, true);
    sregs.setUint16(at + 12, selector, true);
    bytes.set([type, 1, 0, 1 - long, 1, long, 1, 0, 0, 0], at + 14);
  };
  segment(Sregs.cs, 8, 0x0b, 1);
  for (const at of [Sregs.ds, Sregs.es, Sregs.fs, Sregs.gs, Sregs.ss]) segment(at, 16, 0x03, 0);
  sregs.setBigUint64(Sregs.gdtBase, BigInt(At.idt + 0x800), true);
  sregs.setUint16(Sregs.gdtBase + 8, 0x17, true);
  sregs.setBigUint64(Sregs.idtBase, BigInt(At.idt), true);
  sregs.setUint16(Sregs.idtLimit, 0xfff, true);
  sregs.setBigUint64(Sregs.cr0, 0x80050033n, true); // PG, AM, WP, NE, ET, MP, PE
  sregs.setBigUint64(Sregs.cr3, BigInt(At.tables), true);
  sregs.setBigUint64(Sregs.cr4, 0x40620n, true); // OSXSAVE, OSXMMEXCPT, OSFXSR, PAE
  sregs.setBigUint64(Sregs.efer, 0x500n, true); // LMA, LME
  system.exchange(vcpu, Request.setSregs, bytes);
  const registers = new Uint8Array(Regs.size);
  const regs = new DataView(registers.buffer);
  regs.setBigUint64(Regs.rip, BigInt(At.code), true);
  regs.setBigUint64(Regs.rsp, BigInt(At.stack), true);
  regs.setBigUint64(Regs.rdi, BigInt(At.pair), true);
  regs.setBigUint64(Regs.rsi, BigInt(At.xsave), true);
  regs.setBigUint64(Regs.rbx, 0x55n, true);
  regs.setBigUint64(Regs.rflags, 2n, true);
  system.exchange(vcpu, Request.setRegs, registers);
}
