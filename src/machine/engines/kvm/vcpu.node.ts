/**
 * One virtual processor as the main thread sees it: its thread, and its exits, which are handled
 * here one after the other.
 *
 * A processor is always in one of three states: its thread runs the guest; it has an exit that is
 * being handled on the main thread; or it is held, because the computer is paused.
 */
import { Worker } from 'node:worker_threads';
import { Exit, Regs, Request, Run, Sregs } from './abi.js';
import type { Board } from './board/board.js';
import { answerPort, load, store } from './run-page.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import type { EngineEnd, EngineExits } from '../../engine.js';
import { VcpuState, type VcpuMessage, type VcpuStart } from './vcpu-state.js';

/** Why a processor cannot go on. */
export type VcpuEnd = Extract<EngineEnd, 'tripleFault' | 'failed'>;

export interface VcpuHost {
  readonly board: Board;
  onEnd(why: VcpuEnd, detail?: string): void;
}

export class Vcpu {
  readonly fd: number;
  #run: DataView;
  readonly #page: Uint8Array;
  /** Resolves when the thread has ended. */
  readonly #gone: Promise<unknown>;
  readonly #host: VcpuHost;
  readonly #worker: Worker;
  readonly #state: Int32Array;
  readonly #ready: Promise<void>;
  #held = true;
  #running = false;
  #ended = false;
  /** True while an exit is being handled: the guest must not run. */
  #handling = false;
  /** The last exit is answered, but the instruction that caused it has not ended. */
  #unfinished = false;
  #stopped: (() => void)[] = [];
  readonly #exits = { memory: 0, port: 0, other: 0 };

  constructor(vm: number, fd: number, runSize: number, host: VcpuHost) {
    this.fd = fd;
    this.#host = host;
    this.#page = machineCalls().map(fd, runSize);
    this.#run = new DataView(this.#page.buffer, this.#page.byteOffset, this.#page.byteLength);
    const shared = new SharedArrayBuffer(4 * VcpuState.words);
    this.#state = new Int32Array(shared);
    const workerData: VcpuStart = { fd, vm, runSize, shared, board: host.board.state.buffer };
    // Without the program's own options: `node --input-type=module` would be an error here.
    const options = { workerData, execArgv: [] };
    this.#worker = new Worker(new URL('./vcpu-worker.node.js', import.meta.url), options);
    this.#gone = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#ready = new Promise((resolve, reject) => {
      this.#worker.once('error', (error) => {
        reject(error);
        this.#lost();
      });
      this.#worker.once('message', () => {
        this.#worker.on('message', (message: VcpuMessage) => this.#told(message));
        resolve();
      });
    });
  }

  /** Resolves when the thread is there. Rejects if it cannot start. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** True while the guest runs on it. False in an exit and while it is held. */
  get running(): boolean {
    return this.#running;
  }

  /** Number of exits so far. */
  get exits(): EngineExits {
    return { ...this.#exits, quickPort: Atomics.load(this.#state, VcpuState.answered) >>> 0 };
  }

  /** Lets the guest run. */
  resume(): void {
    if (!this.#held || this.#ended) return;
    this.#held = false;
    if (!this.#running && !this.#handling) this.#go();
  }

  /** Holds the processor between two instructions. Resolves when it is held. */
  async hold(): Promise<void> {
    this.#held = true;
    if (this.#running) await this.#left();
    // The kernel ends the instruction of an exit when the processor is run again, and then leaves
    // at once ([KVM] §5, "immediate_exit"). One that crosses a page may make another exit.
    while (this.#held && this.#unfinished && !this.#ended && !this.#handling) {
      const left = this.#left();
      if (!this.#running) this.#go();
      await left;
    }
  }

  /** Makes the thread leave the guest. Resolves when it has, and its exit is handled. */
  #left(): Promise<void> {
    const left = new Promise<void>((resolve) => this.#stopped.push(resolve));
    this.leave();
    return left;
  }

  /** Ends the thread. */
  async end(): Promise<void> {
    await this.hold();
    this.#ended = true;
    Atomics.store(this.#state, VcpuState.turn, VcpuState.end);
    Atomics.notify(this.#state, VcpuState.turn);
    await this.#gone;
    // A last message of the thread may still come.
    this.#run = new DataView(new ArrayBuffer(this.#page.length));
    machineCalls().unmap(this.#page);
  }

  /** Reads a structure of the held processor. */
  get(request: number, size: number): DataView {
    const bytes = new Uint8Array(size);
    machineCalls().exchange(this.fd, request, bytes);
    return new DataView(bytes.buffer);
  }

  set(request: number, view: DataView): void {
    machineCalls().exchange(this.fd, request, new Uint8Array(view.buffer));
  }

  /** Makes the thread leave the guest. */
  leave(): void {
    this.#run.setUint8(Run.immediateExit, 1);
    machineCalls().kick(Atomics.load(this.#state, VcpuState.thread));
  }

  #go(): void {
    this.#running = true;
    Atomics.store(this.#state, VcpuState.turn, VcpuState.guest);
    Atomics.notify(this.#state, VcpuState.turn);
  }

  /** The thread has ended by an error of ours: the processor cannot go on. */
  #lost(): void {
    this.#running = false;
    if (this.#ended) return;
    this.#ended = true;
    this.#endWith('failed', 'its thread has ended');
    for (const stopped of this.#stopped.splice(0)) stopped();
  }

  #told(message: VcpuMessage): void {
    if (message === 'output') this.#host.board.takeOutput();
    else if (message === 'room') this.#host.board.room();
    else this.#exited();
  }

  #exited(): void {
    this.#running = false;
    const failed = Atomics.load(this.#state, VcpuState.failed);
    this.#run.setUint8(Run.immediateExit, 0);
    this.#unfinished = false;
    if (failed === VcpuState.broken) this.#endWith('failed', 'the kernel refused to run it');
    else if (failed === 0) this.#handle();
    for (const stopped of this.#stopped.splice(0)) stopped();
    if (!this.#held && !this.#ended) this.#go();
  }

  #handle(): void {
    this.#handling = true;
    try {
      this.#answer();
    } finally {
      this.#handling = false;
    }
  }

  #answer(): void {
    const reason = this.#run.getUint32(Run.exitReason, true);
    this.#exits[reason === Exit.mmio ? 'memory' : reason === Exit.io ? 'port' : 'other']++;
    switch (reason) {
      case Exit.io:
        this.#port();
        this.#unfinished = true;
        return;
      case Exit.mmio:
        this.#memory();
        this.#unfinished = true;
        return;
      case Exit.interrupted:
        return;
      case Exit.shutdown:
      case Exit.systemEvent:
        return this.#endWith('tripleFault');
      case Exit.internalError:
        return this.#endWith('failed', internalError(this.#run.getUint32(Run.suberror, true)));
      default:
        return this.#endWith('failed', `exit ${reason} of KVM`);
    }
  }

  #endWith(why: VcpuEnd, detail?: string): void {
    this.#held = true;
    this.#host.onEnd(why, detail);
  }

  #port(): void {
    const { board } = this.#host;
    answerPort(this.#run, {
      read: (port, size) => board.readPort(port, size),
      write: (port, size, value) => (board.writePort(port, size, value), true),
    });
  }

  #memory(): void {
    const run = this.#run;
    const address = Number(run.getBigUint64(Run.mmioAddress, true));
    const length = run.getUint32(Run.mmioLength, true);
    const write = run.getUint8(Run.mmioIsWrite) === 1;
    // Devices know accesses of 1, 2 and 4 bytes. One of 8 is two of 4; the parts of an access that
    // crosses a page have other lengths, and are single bytes.
    const size = length === 8 ? 4 : length === 2 || length === 4 ? length : 1;
    for (let done = 0; done + size <= length; done += size) {
      const at = Run.mmioData + done;
      if (write) this.#host.board.writeMemory(address + done, size, load(run, at, size));
      else store(run, at, size, this.#host.board.readMemory(address + done, size));
    }
  }
}

/** Names of KVM's internal errors ([KVM] §5, KVM_EXIT_INTERNAL_ERROR). */
const internalErrors: Readonly<Record<number, string>> = {
  1: 'it cannot emulate an instruction',
  2: 'two exceptions at once',
  3: 'it could not deliver an interrupt',
  4: "the processor's reason for an exit is unknown",
};

function internalError(number: number): string {
  const name = internalErrors[number];
  return `KVM's internal error ${number}${name === undefined ? '' : `, ${name}`}`;
}

/** Puts a processor into flat 32-bit protected mode, paging and interrupts off. */
export function enterProtected(
  vcpu: Vcpu,
  registers: { readonly rip: number; readonly rbx: number; readonly rsi: number; readonly rsp: number },
): void {
  const sregs = vcpu.get(Request.getSregs, Sregs.size);
  const segment = (at: number, selector: number, type: number) => {
    sregs.setBigUint64(at, 0n, true);
    sregs.setUint32(at + 8, 0xffffffff, true);
    sregs.setUint16(at + 12, selector, true);
    // type, present, privilege level, default size, code or data, long mode, granularity
    [type, 1, 0, 1, 1, 0, 1, 0, 0, 0].forEach((byte, i) => sregs.setUint8(at + 14 + i, byte));
  };
  segment(Sregs.cs, 0x10, 0x0b);
  for (const at of [Sregs.ds, Sregs.es, Sregs.fs, Sregs.gs, Sregs.ss]) segment(at, 0x18, 0x03);
  // The task register must be a busy 32-bit TSS.
  sregs.setBigUint64(Sregs.tr, 0n, true);
  sregs.setUint32(Sregs.tr + 8, 0x67, true);
  sregs.setUint16(Sregs.tr + 12, 0x20, true);
  [0x0b, 1, 0, 0, 0, 0, 0, 0, 0, 0].forEach((byte, i) => sregs.setUint8(Sregs.tr + 14 + i, byte));
  sregs.setBigUint64(Sregs.cr0, 0x11n, true);
  sregs.setBigUint64(Sregs.cr4, 0n, true);
  vcpu.set(Request.setSregs, sregs);
  const regs = new DataView(new ArrayBuffer(Regs.size));
  const set = (at: number, value: number) => regs.setBigUint64(at, BigInt(value), true);
  set(Regs.rbx, registers.rbx);
  set(Regs.rsi, registers.rsi);
  set(Regs.rsp, registers.rsp);
  set(Regs.rip, registers.rip);
  set(Regs.rflags, 2);
  vcpu.set(Request.setRegs, regs);
}
