/**
 * The link of a port and the resets of its device (AHCI 1.3.1 §3.3.10 to §3.3.12, §10.4).
 *
 * After a reset (COMRESET or software reset) the device sends its signature only when no earlier
 * command can have a later effect. Until then the port reports that it is busy.
 */
import { AtaStatus } from '../../spec/ata.js';
import type { ReceivedFisArea } from './completion.js';
import { Signature, d2hFis } from '../../spec/sata-fis.js';
import { portResetValues, type PortFile } from './registers.js';
import type { SataDevice } from '../ata/sata-device.js';
import { Det, LinkStatus, PortCmd, ReceivedFis, SError } from '../../spec/ahci.js';

/** The parts of the port that the link uses. */
export interface LinkPort {
  readonly file: PortFile;
  readonly area: ReceivedFisArea;
  device(): SataDevice | undefined;
  /** Gives up the commands in flight. */
  giveUp(): void;
  /** True if no command is in flight; `drained` resolves when that is so. */
  idle(): boolean;
  drained(): Promise<void>;
  /** Tells the port that the device accepts commands again. */
  ready(): void;
  lostArea(): void;
  changed(): void;
}

export class PortLink {
  readonly #port: LinkPort;
  /**
   * The reset after which the device has not yet sent its signature; undefined if there is none.
   */
  #settling: Promise<void> | undefined;
  /**
   * Waits for the commands in flight: one wait for all resets that the driver asks for meanwhile.
   * When it ends, `#announce` of the last reset runs.
   */
  #draining: Promise<void> | undefined;
  #announce: (() => void) | undefined;
  /** The device sent its signature while PxCMD.FRE was 0, so its FIS must still be posted. */
  signatureUnposted = false;
  /** The driver has set SRST and has not cleared it. */
  softReset = false;

  constructor(port: LinkPort) {
    this.#port = port;
  }

  get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  /**
   * §3.3.11: handles a write to PxSCTL.DET. The value 1 holds COMRESET, the value 4 switches the
   * interface off.
   */
  control(before: number): void {
    const { file } = this.#port;
    const device = this.#port.device();
    const det = file.sctl & 0xf;
    if (det === before) return;
    if (det === Det.comreset || det === Det.disable) {
      this.#port.giveUp();
      this.cancel();
      file.ssts = det === Det.disable ? LinkStatus.offline : LinkStatus.none;
      file.tfd = device ? AtaStatus.busy | 0x7f : portResetValues.tfd;
      file.sig = Signature.none;
    } else if (det === Det.none && (before === Det.comreset || before === Det.disable)) {
      if (device) this.establish();
      else file.ssts = LinkStatus.none;
    }
  }

  /** Brings the link up. The device is busy until it has sent its signature. */
  establish(): void {
    const { file } = this.#port;
    file.ssts = LinkStatus.up;
    file.serr |= SError.exchanged | SError.phyReadyChange;
    file.sig = Signature.none;
    this.softReset = false;
    this.settle(true);
    this.#port.changed();
  }

  /**
   * Resets the device by COMRESET (`hard`) or software reset.
   * @param then Called before the next command is fetched.
   */
  settle(hard: boolean, then?: () => void): void {
    const port = this.#port;
    port.giveUp();
    this.cancel();
    port.file.tfd = AtaStatus.busy;
    const announce = (): void => {
      const device = port.device();
      if (!device) return;
      this.#settling = undefined;
      device.reset(hard);
      this.postSignature();
      then?.();
      port.ready();
    };
    if (port.idle()) return announce();
    this.#announce = announce;
    this.#settling = this.#draining ??= port.drained().then(() => {
      this.#draining = undefined;
      const last = this.#announce;
      this.#announce = undefined;
      last?.();
    });
  }

  /** Cancels a pending reset: its signature is not sent. */
  cancel(): void {
    this.#announce = undefined;
    this.#settling = undefined;
  }

  postSignature(): void {
    const { file, area } = this.#port;
    const { signature, resetStatus } = this.#port.device()!;
    file.sig = signature;
    const result = { status: resetStatus, error: 1, lba: signature >>> 8, count: signature & 0xff, device: 0 };
    file.tfd = (result.error << 8) | result.status;
    this.signatureUnposted = (file.cmd & PortCmd.fisReceiveRunning) === 0;
    if (!area.post(ReceivedFis.d2hRegister, d2hFis(result, false))) this.#port.lostArea();
  }
}
