/**
 * One port of the host bus adapter (AHCI 1.3.1 §3.3, §5.3): its registers, the command list, errors
 * and hot plug.
 *
 * When a port is stopped or reset, the commands in flight are given up. The port reports that the
 * list is running (PxCMD.CR) or that the device is busy (PxTFD.STS.BSY) until none of them can have
 * a later effect on the medium. Read data that still arrives is discarded, because the driver may
 * have reused the memory.
 *
 * Not here: the commands in flight (command-runner.ts), link and resets (port-link.ts), received
 * FISes (completion.ts), the meaning of a command (../ata/sata-device.ts).
 */
import type { Trap } from '../../machine/trap.js';
import { Det, LinkStatus, PortCmd, PortInterrupt, ReceivedFis, SError, slots } from '../../spec/ahci.js';
import { AtaStatus, controlReset } from '../../spec/ata.js';
import { setDeviceBitsFis } from '../../spec/sata-fis.js';
import { failed, type DeviceOutcome, type SataDevice } from '../ata/sata-device.js';
import { CommandListError, address, fetchCommand, type SlotCommand } from './command-list.js';
import { CommandRunner, type PortContext } from './command-runner.js';
import { ReceivedFisArea } from './completion.js';
import { abortedOutcome } from './device-request.js';
import { PortLink } from './port-link.js';
import { interruptStatus, portResetValues, readPort, writePort, type PortFile } from './registers.js';
import { checkLike, highestRegister } from '../saved-state.js';
import type { PortState } from './state.js';

const busyMask = AtaStatus.busy | AtaStatus.dataRequest;

export class AhciPort {
  readonly name: string;
  readonly #context: PortContext;
  readonly #file: PortFile = { clb: 0, clbu: 0, fb: 0, fbu: 0, ...portResetValues };
  readonly #area: ReceivedFisArea;
  readonly #running: CommandRunner;
  readonly #link: PortLink;
  #device: SataDevice | undefined;
  #stopping: Promise<void> | undefined;
  /** §6.2: an error has stopped the command list, until the driver clears PxCMD.ST. */
  #halted = false;
  #paused = false;

  constructor(name: string, context: PortContext) {
    this.name = name;
    this.#context = context;
    this.#running = new CommandRunner(context, {
      halted: () => this.#halted,
      complete: (command, outcome, queued) => this.#complete(command, outcome, queued),
      fail: (interrupt, reason) => this.#fail(interrupt, reason),
      fetch: () => this.#fetch(),
    });
    this.#area = new ReceivedFisArea(context.memory, this.#file);
    this.#link = new PortLink({
      file: this.#file,
      area: this.#area,
      device: () => this.#device,
      giveUp: () => this.#running.giveUp(),
      idle: () => this.#running.idle,
      drained: () => this.#running.drained(),
      ready: () => this.#fetch(),
      lostArea: () => this.#lostArea(),
      changed: () => this.#context.changed(),
    });
  }

  get device(): SataDevice | undefined {
    return this.#device;
  }

  /** True if the port requests an interrupt: a bit is set both in PxIS and in PxIE. */
  get interrupting(): boolean {
    return (interruptStatus(this.#file) & this.#file.ie) !== 0;
  }

  read(offset: number): number {
    return readPort(this.#file, offset);
  }

  write(offset: number, value: number, mask: number, trap?: Trap): void {
    const { cmd, sctl } = this.#file;
    switch (writePort(this.#file, offset, value, mask)) {
      case 'none':
        return;
      case 'interrupt':
        return this.#context.changed();
      case 'status':
        this.#running.consumed();
        return this.#context.changed();
      case 'command':
        return this.#command(cmd);
      case 'link':
        return this.#link.control(sctl & 0xf);
      case 'issue':
        return this.#fetch(trap);
    }
  }

  /** Connects a device, at power-on or while the guest runs. */
  plug(device: SataDevice): void {
    this.#running.giveUp();
    this.#device = device;
    device.attach(() => this.#notify(device));
    const det = this.#file.sctl & 0xf;
    if (det === Det.none) this.#link.establish();
  }

  /**
   * Disconnects the device. Its commands are given up; for the driver they end with the port's next
   * reset.
   */
  unplug(): SataDevice | undefined {
    const device = this.#device;
    if (!device) return undefined;
    this.#running.giveUp();
    this.#link.cancel();
    device.attach(() => undefined);
    this.#device = undefined;
    this.#halted = true;
    this.#file.tfd = portResetValues.tfd;
    if ((this.#file.sctl & 0xf) === Det.none) this.#file.ssts = LinkStatus.none;
    this.#file.serr |= SError.phyReadyChange;
    this.#context.changed();
    return device;
  }

  /** §10.4.3, adapter reset: gives everything up, and resolves when no command is in flight. */
  async resetAll(): Promise<void> {
    this.#running.giveUp();
    this.#link.cancel();
    // A pending stop would start the list again if PxCMD.ST were set, with the commands in PxCI.
    // They would begin during the reset and end after it, so clear both.
    this.#file.ci = 0;
    this.#file.sact = 0;
    this.#file.cmd &= ~PortCmd.start;
    await this.#running.drained();
  }

  /**
   * Ends an adapter's reset: the registers except the addresses get their reset values, and the
   * link comes up again.
   */
  restart(): void {
    const { clb, clbu, fb, fbu } = this.#file;
    Object.assign(this.#file, portResetValues, { clb, clbu, fb, fbu });
    this.#halted = false;
    this.#link.softReset = false;
    this.#stopping = undefined;
    if (this.#device) this.#link.establish();
  }

  /** Stops fetching commands and waits until none is in flight, for a snapshot. */
  async pause(): Promise<void> {
    this.#paused = true;
    await this.#running.drained();
    await this.#link.settling;
    await this.#stopping;
  }

  resume(): void {
    this.#paused = false;
    this.#fetch();
  }

  /**
   * Registers and the state outside them.
   * @throws Error if the port is not paused
   */
  save(): PortState {
    if (!this.#paused || !this.#running.idle) throw new Error('the port is not paused');
    return {
      registers: { ...this.#file },
      halted: this.#halted,
      softReset: this.#link.softReset,
      signatureUnposted: this.#link.signatureUnposted,
      device: this.#device?.save(),
    };
  }

  /** @throws StateFault if it cannot have been saved */
  restore(state: PortState): void {
    const own = { registers: this.#file, halted: false, softReset: false, signatureUnposted: false };
    checkLike({ ...own, device: undefined }, state);
    checkLike(this.#file, state.registers, highestRegister);
    Object.assign(this.#file, state.registers);
    this.#halted = state.halted;
    this.#link.softReset = state.softReset;
    this.#link.signatureUnposted = state.signatureUnposted;
    this.#link.cancel();
    if (this.#device && state.device !== undefined) this.#device.restore(state.device);
  }

  /** §3.3.7: handles a write to PxCMD. */
  #command(before: number): void {
    const file = this.#file;
    const set = file.cmd & ~before;
    const cleared = before & ~file.cmd;
    if (file.cmd & PortCmd.commandListOverride) {
      file.cmd &= ~PortCmd.commandListOverride;
      if (!(file.cmd & PortCmd.start)) file.tfd &= ~busyMask;
    }
    if (set & PortCmd.fisReceive) this.#startReceiving();
    if (cleared & PortCmd.fisReceive) file.cmd &= ~PortCmd.fisReceiveRunning;
    if (set & PortCmd.start) this.#start();
    if (cleared & PortCmd.start) this.#stop();
  }

  #startReceiving(): void {
    if (!this.#area.placed) return this.#lostArea();
    this.#file.cmd |= PortCmd.fisReceiveRunning;
    if (this.#link.signatureUnposted) this.#link.postSignature();
  }

  #start(): void {
    // The driver did not wait for PxCMD.CR to become 0. The list starts when the commands in flight
    // have ended.
    if (this.#stopping) return;
    this.#file.cmd |= PortCmd.listRunning;
    this.#fetch();
  }

  /** §3.3.7, ST: PxCI and PxSACT are cleared immediately, PxCMD.CR when no command is in flight. */
  #stop(): void {
    const file = this.#file;
    this.#running.giveUp();
    file.ci = 0;
    file.sact = 0;
    file.cmd &= ~(0x1f << PortCmd.currentSlotShift);
    this.#halted = false;
    if (this.#running.idle && !this.#stopping) {
      file.cmd &= ~PortCmd.listRunning;
      return;
    }
    this.#stopping ??= this.#running.drained().then(() => {
      this.#stopping = undefined;
      file.cmd &= ~PortCmd.listRunning;
      if (!this.#link.settling) file.tfd &= ~busyMask;
      if (file.cmd & PortCmd.start) this.#start();
    });
  }

  get #ready(): boolean {
    const { cmd, tfd, ssts } = this.#file;
    const running = PortCmd.start | PortCmd.listRunning;
    if ((cmd & running) !== running || this.#halted || this.#paused || this.#link.settling || !this.#device) {
      return false;
    }
    return ssts === LinkStatus.up && (tfd & busyMask) === 0;
  }

  /**
   * §5.3.2: fetches issued commands, in slot order after the last one, while the device is not
   * busy.
   */
  #fetch(trap?: Trap): void {
    const file = this.#file;
    for (let looked = 0; looked < slots && file.ci !== 0 && this.#ready; looked++) {
      let slot = (file.cmd >>> PortCmd.currentSlotShift) & 0x1f;
      do slot = (slot + 1) % slots;
      while (!(file.ci & (1 << slot)));
      file.cmd = (file.cmd & ~(0x1f << PortCmd.currentSlotShift)) | (slot << PortCmd.currentSlotShift);
      try {
        this.#dispatch(fetchCommand(this.#context.memory, address(file.clb, file.clbu), slot), trap);
      } catch (error) {
        if (!(error instanceof CommandListError)) throw error;
        this.#fail(error.interrupt, error.message);
      }
    }
  }

  #dispatch(command: SlotCommand, trap?: Trap): void {
    const device = this.#device!;
    const { slot, fis } = command;
    if (!fis.isCommand) return this.#control(command);
    if (this.#link.softReset) return; // the device ignores commands until SRST is cleared
    const queued = device.isQueued(fis.command);
    const others = this.#running.queued;
    // SATA 3.0 §13.6.4: a queued command whose tag is in use, or an unqueued command while queued
    // ones are in flight, aborts all of them.
    const refused = queued ? this.#running.has(slot) || fis.count >> 3 !== slot : others;
    if (queued) this.#file.ci &= ~(1 << slot);
    else this.#file.tfd = (this.#file.tfd & 0xff00) | AtaStatus.busy;
    if (refused) {
      const outcome = abortedOutcome(command);
      device.queuedError(slot, outcome, queued);
      return this.#complete(command, outcome, queued);
    }
    this.#running.run(device, command, queued, trap);
  }

  /** A register FIS with C = 0 (device control): only its SRST bit has a meaning (§10.4.1). */
  #control({ slot, fis }: SlotCommand): void {
    const bit = 1 << slot;
    if (fis.control & controlReset) {
      this.#link.softReset = true;
      this.#running.giveUp();
      this.#link.cancel();
      this.#file.ci &= ~bit;
    } else if (this.#link.softReset) {
      this.#link.softReset = false;
      this.#link.settle(false, () => (this.#file.ci &= ~bit));
    } else {
      this.#file.ci &= ~bit;
    }
  }

  #complete(command: SlotCommand, outcome: DeviceOutcome, queued: boolean): void {
    this.#context.counts.commands++;
    if (failed(outcome)) this.#halted = true;
    if (!this.#area.complete(command, outcome, queued)) return this.#lostArea();
    this.#context.changed();
  }

  /**
   * §6.1, §6.2.1: a host bus or interface error stops the command list until the driver resets the
   * port.
   */
  #fail(interrupt: number, reason: string): void {
    this.#halted = true;
    this.#file.is |= interrupt;
    if (interrupt === PortInterrupt.interfaceFatal) this.#file.serr |= SError.handshake | SError.protocol;
    if (!this.#link.settling) this.#file.tfd &= ~busyMask;
    this.#context.log.log('warn', `${this.name} failed`, `${this.name}: ${reason}`);
    this.#context.changed();
  }

  /** SATA 3.0 §13.8, asynchronous notification: a set device bits FIS with its N bit. */
  #notify(device: SataDevice): void {
    if (this.#device !== device || this.#file.ssts !== LinkStatus.up || this.#link.settling) return;
    if (!this.#area.post(ReceivedFis.setDeviceBits, setDeviceBitsFis(this.#file.tfd, 0, 0, true))) this.#lostArea();
    this.#file.is |= PortInterrupt.setDeviceBits;
    this.#context.changed();
  }

  #lostArea(): void {
    this.#fail(PortInterrupt.hostBusFatal, 'the area for received frames is not in guest memory');
  }
}
