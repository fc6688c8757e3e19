/**
 * An NVMe controller (NVM Express 1.4) with one namespace, which is a BlockDevice: the logical
 * device of [SYS] as a guest's stock driver sees it.
 *
 * Registers and resets are here; queues and commands in flight are in command-processor.ts, the
 * command sets in admin.ts and nvm.ts.
 *
 * A guest may write any value to any register. The controller answers with the status that the
 * specification gives, or fails (CSTS.CFS) until the driver resets it.
 *
 * Not here: SGLs, controller memory buffer, boot partitions, weighted round robin arbitration, MSI
 * without X.
 */
import { silent, ThrottledLogger } from '../../base/log.js';
import { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import type { PciConnection } from '../../machine/engine.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import type { GuardedDevice, Trap } from '../../machine/trap.js';
import { Cc, Csts, Register, cqeSize, sqeSize } from '../../spec/nvme.js';
import { checkLike, highestRegister } from '../saved-state.js';
import { CommandProcessor } from './command-processor.js';
import { interruptVectors } from './interrupt.js';
import type { NvmeOptions } from './options.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';
import { readRegister, writeRegister, type RegisterFile } from './registers.js';
import { Shutdown } from './shutdown.js';
import type { NvmeState } from './state.js';

/**
 * PCI vendor and device id. They are not assigned to any vendor, so no driver applies quirks to
 * them.
 */
export const vendorId = 0xfb05;
export const deviceId = 0x0001;

/** Place of the MSI-X structures in the registers' BAR, behind all doorbells. */
export const msix = { vectors: interruptVectors, tableOffset: 0x2000, pendingOffset: 0x3000 } as const;

export class NvmeController implements GuardedDevice {
  readonly name = 'nvme';
  readonly size = 0x4000;
  readonly base: number;

  readonly #memory: GuestMemory;
  readonly #log: ThrottledLogger;

  readonly #registers: RegisterFile = {
    intms: 0,
    cc: 0,
    csts: 0,
    aqa: 0,
    asqLow: 0,
    asqHigh: 0,
    acqLow: 0,
    acqHigh: 0,
  };
  readonly #commands: CommandProcessor;
  readonly #shutdown: Shutdown;
  #draining: Promise<void> | undefined;
  #paused = false;

  constructor(options: NvmeOptions) {
    this.base = options.base;
    this.#memory = options.memory;
    this.#log = new ThrottledLogger(options.log ?? silent);
    this.#commands = new CommandProcessor(
      { ...options, steps: options.steps ?? new Steps(), log: this.#log, name: this.name, vendor: vendorId },
      {
        running: () => this.#running,
        registers: this.#registers,
        fail: (reason) => this.#fail(reason),
      },
    );
    this.#shutdown = new Shutdown(this.#registers, (signal) => this.#flush(options.disk, signal));
  }

  /**
   * Number of interrupts (the line going from low to high, or a message), and of commands completed
   * on I/O queues.
   */
  get counts(): { readonly interrupts: number; readonly commands: number } {
    return this.#commands.counts;
  }

  /** Connects the controller to the board. */
  connect(connection: PciConnection): void {
    this.#commands.connect(connection);
  }

  issuesCommand(offset: number): boolean {
    // Submission queue tail doorbells (SQyTDBL) are the even dwords.
    return offset >= Register.doorbells && (offset - Register.doorbells) % 8 === 0;
  }

  read(offset: number, size: number): number {
    const dword = readRegister(this.#registers, offset & ~3);
    if (size === 4 && offset % 4 === 0) return dword;
    return (dword >>> (8 * (offset & 3))) & (size === 1 ? 0xff : 0xffff);
  }

  write(offset: number, size: number, value: number, trap?: Trap): void {
    // §3.1 leaves accesses other than aligned dwords undefined; they are ignored.
    if (size !== 4 || offset % 4 !== 0) return;
    value >>>= 0;
    if (offset >= Register.doorbells) return this.#commands.doorbell((offset - Register.doorbells) / 4, value, trap);
    const before = this.#registers.cc;
    switch (writeRegister(this.#registers, offset, value)) {
      case 'cc':
        return this.#configure(before, this.#registers.cc);
      case 'mask':
        return this.#commands.interrupt.update();
      case 'none':
        return;
    }
  }

  /** Stops fetching commands and waits until none is in flight, for a snapshot. */
  async pause(): Promise<void> {
    this.#paused = true;
    this.#commands.pause();
    await this.#commands.drained();
    await this.#shutdown.drained();
    await this.#draining;
  }

  /** Resumes fetching after {@link pause}. */
  resume(): void {
    this.#paused = false;
    this.#commands.resume();
  }

  /**
   * Registers and queues, for a snapshot.
   * @throws Error if the controller is not paused
   */
  save(): NvmeState {
    if (!this.#paused || !this.#commands.idle) throw new Error('the controller is not paused');
    return { registers: { ...this.#registers }, ...this.#commands.save() };
  }

  /**
   * Restores a saved state and sets the interrupt line accordingly. Only before the guest runs.
   * @throws StateFault if it cannot have been saved
   */
  restore(state: NvmeState): void {
    checkLike(this.#registers, state.registers, highestRegister);
    Object.assign(this.#registers, state.registers);
    this.#commands.restore(state);
  }

  /** §3.1.5, a write to CC: enables, disables or shuts down the controller. */
  #configure(before: number, now: number): void {
    const enable = (now & Cc.enable) !== 0;
    if (enable && (before & Cc.enable) === 0) this.#enable();
    if (!enable && (before & Cc.enable) !== 0) this.#reset();
    const shutdown = (now >>> Cc.shnShift) & 3;
    if (shutdown !== 0 && shutdown !== ((before >>> Cc.shnShift) & 3)) this.#shutdown.begin();
  }

  /** §7.3.1, §7.6.1: sets up the admin queues and then sets CSTS.RDY. */
  #enable(): void {
    // A reset is still draining: the driver did not wait for CSTS.RDY to become 0. The reset
    // enables the controller when it ends.
    if (this.#draining) return;
    const { cc, aqa, asqLow, asqHigh, acqLow, acqHigh } = this.#registers;
    const sqBase = asqHigh * 0x100000000 + asqLow;
    const cqBase = acqHigh * 0x100000000 + acqLow;
    const sqSize = (aqa & 0xfff) + 1;
    const cqSize = ((aqa >>> 16) & 0xfff) + 1;
    const supported = ((cc >>> Cc.mpsShift) & 0xf) === 0 && ((cc >>> Cc.cssShift) & 7) === 0;
    const placed = this.#memory.view(sqBase, sqSize * sqeSize) && this.#memory.view(cqBase, cqSize * cqeSize);
    if (!supported || ((cc >>> Cc.amsShift) & 7) !== 0 || sqSize < 2 || cqSize < 2 || !placed) {
      return this.#fail('the driver enabled it with an admin queue or configuration that it cannot have');
    }
    this.#commands.createAdminQueues(
      new SubmissionQueue(0, sqBase, sqSize, 0),
      new CompletionQueue(0, cqBase, cqSize, true),
    );
    this.#registers.csts = Csts.ready;
  }

  /**
   * §7.3.2, controller reset. CSTS.RDY stays 1 until every command in flight has ended or is known
   * to have no later effect, because the driver then reuses its memory and rewrites the same
   * blocks.
   */
  #reset(): void {
    this.#registers.intms = 0;
    this.#commands.reset();
    this.#shutdown.giveUp();
    // All resets that the driver asks for meanwhile share one wait: with one wait each, a guest
    // could use up the host's memory.
    this.#draining ??= Promise.all([this.#commands.drained(), this.#shutdown.drained()]).then(() => {
      this.#draining = undefined;
      this.#registers.csts = 0;
      if (this.#registers.cc & Cc.enable) this.#enable();
    });
  }

  /** Flushes the medium for a shutdown, when no command is in flight. */
  async #flush(disk: BlockDevice, signal: AbortSignal): Promise<void> {
    await this.#commands.drained();
    if (signal.aborted) return;
    await disk.flush({ signal }).catch((error: unknown) => {
      if (signal.aborted) return;
      this.#log.log('warn', 'shutdown', `${this.name}: flush at shutdown failed: ${String(error)}`);
    });
  }

  /** §3.1.6, CSTS.CFS: the controller has failed and does nothing more until a reset. */
  #fail(reason: string): void {
    this.#registers.csts |= Csts.fatal;
    this.#log.log('warn', 'fatal', `${this.name}: controller failed: ${reason}`);
  }

  get #running(): boolean {
    const { cc, csts } = this.#registers;
    return (cc & Cc.enable) !== 0 && (csts & (Csts.ready | Csts.fatal)) === Csts.ready;
  }
}
