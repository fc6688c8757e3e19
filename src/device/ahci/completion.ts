/**
 * Completion of a command, as a port shows it to the driver (AHCI 1.3.1 §5.3.10 to §5.3.13,
 * §6.2.2): the FISes in the received FIS area (§4.2.1), PxTFD, PxCI or PxSACT, and PxIS.
 */
import type { GuestMemory } from '../../machine/guest-memory.js';
import { AtaCommand, AtaStatus, good, type ResultFile } from '../../spec/ata.js';
import { address, writeByteCount, type SlotCommand } from './command-list.js';
import { d2hFis, dmaSetupFis, pioSetupFis, setDeviceBitsFis } from '../../spec/sata-fis.js';
import type { PortFile } from './registers.js';
import { failed, type DeviceOutcome } from '../ata/sata-device.js';
import { PortCmd, PortInterrupt, ReceivedFis } from '../../spec/ahci.js';

/** The received FIS area of a port, with the registers that change together with it. */
export class ReceivedFisArea {
  readonly #memory: GuestMemory;
  readonly #file: PortFile;

  constructor(memory: GuestMemory, file: PortFile) {
    this.#memory = memory;
    this.#file = file;
  }

  /** True if the whole area is in guest memory. */
  get placed(): boolean {
    return this.#memory.view(this.#base, ReceivedFis.size) !== undefined;
  }

  /**
   * Writes a FIS if the driver has enabled receiving. Returns false if the area is not in guest
   * memory.
   */
  post(offset: number, fis: Uint8Array): boolean {
    if (!(this.#file.cmd & PortCmd.fisReceiveRunning)) return true;
    const view = this.#memory.view(this.#base + offset, fis.length);
    if (!view) return false;
    view.set(fis);
    this.#memory.written(this.#base + offset, fis.length);
    return true;
  }

  /** Completes a command. Returns false as {@link post} does. */
  complete(command: SlotCommand, outcome: DeviceOutcome, queued: boolean): boolean {
    const file = this.#file;
    const { result } = outcome;
    file.tfd = (result.error << 8) | result.status;
    // §6.2.2: after an error the slot's bit stays set, and no further command is fetched.
    if (failed(outcome)) file.is |= PortInterrupt.taskFileError;
    return queued ? this.#queued(command, outcome) : this.#single(command, outcome);
  }

  #queued({ slot, fis }: SlotCommand, outcome: DeviceOutcome): boolean {
    const file = this.#file;
    const { result, transferred } = outcome;
    const ended = failed(outcome) ? 0 : 1 << slot;
    file.sact &= ~ended;
    file.is |= PortInterrupt.setDeviceBits;
    const setup = dmaSetupFis(slot, transferred, fis.command === AtaCommand.readFpdma);
    return (
      this.post(ReceivedFis.dmaSetup, setup) &&
      this.post(ReceivedFis.setDeviceBits, setDeviceBitsFis(result.status, result.error, ended))
    );
  }

  #single(command: SlotCommand, outcome: DeviceOutcome): boolean {
    const file = this.#file;
    const { result, protocol, transferred } = outcome;
    const bad = failed(outcome);
    writeByteCount(this.#memory, command.header, transferred);
    if (!bad) file.ci &= ~(1 << command.slot);
    let placed = true;
    if (protocol !== 'none' && protocol !== 'dma') {
      const during: ResultFile = { ...result, status: good | AtaStatus.dataRequest };
      const fis = pioSetupFis(during, result.status, Math.min(transferred, 0xfffe), protocol.endsWith('in'));
      placed = this.post(ReceivedFis.pioSetup, fis);
    }
    if (protocol === 'pio-in' && !bad) {
      // the PIO setup FIS carries the ending status: no register FIS follows
      file.is |= PortInterrupt.pioSetup;
      return placed;
    }
    file.is |= PortInterrupt.d2hRegister;
    return this.post(ReceivedFis.d2hRegister, d2hFis(result, true)) && placed;
  }

  get #base(): number {
    return address(this.#file.fb, this.#file.fbu);
  }
}
