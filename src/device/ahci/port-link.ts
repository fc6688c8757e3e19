/**
 * The link of a port and the device's resets (AHCI 1.3.1 §3.3.10 to §3.3.12, §10.4): COMRESET and what follows until the
 * device has announced itself, which it does when nothing of before the reset can have a later effect.
 */
import { AtaStatus } from './ata-spec.js';
import type { ReceivedFisArea } from './completion.js';
import { d2hFis } from './fis.js';
import { portResetValues, type PortFile } from './registers.js';
import type { SataDevice } from './sata-device.js';
import { Det, LinkStatus, PortCmd, ReceivedFis, SError, Signature } from './spec.js';

/** What the link needs of its port. */
export interface LinkPort {
  readonly file: PortFile;
  readonly area: ReceivedFisArea;
  device(): SataDevice | undefined;
  /** Gives up what is under way. */
  giveUp(): void;
  /** Whether nothing is under way, and when that is so. */
  idle(): boolean;
  drained(): Promise<void>;
  /** The device takes commands again. */
  ready(): void;
  lostArea(): void;
  changed(): void;
}

export class PortLink {
  readonly #port: LinkPort;
  /** A reset whose end the device has not announced. */
  #settling: Promise<void> | undefined;
  /** The wait for what is under way, one for all resets that are asked for meanwhile, and what the last of them does then. */
  #draining: Promise<void> | undefined;
  #announce: (() => void) | undefined;
  /** The frame of the signature has come while PxCMD.FRE was 0. */
  signatureUnposted = false;
  /** The driver has set SRST and not cleared it. */
  softReset = false;

  constructor(port: LinkPort) {
    this.#port = port;
  }

  get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  /** §3.3.11, DET, has been written: COMRESET while it is 1, the interface off while it is 4. */
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

  /** The link is up: the device is busy until it has announced itself. */
  establish(): void {
    const { file } = this.#port;
    file.ssts = LinkStatus.up;
    file.serr |= SError.exchanged | SError.phyReadyChange;
    file.sig = Signature.none;
    this.softReset = false;
    this.settle(true);
    this.#port.changed();
  }

  /** Resets the device, by COMRESET (`hard`) or software reset. @param then Before the next command is taken. */
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

  /** A reset that is under way announces nothing. */
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
