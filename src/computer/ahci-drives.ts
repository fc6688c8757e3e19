/**
 * The drives of a computer on its AHCI adapter, one for each port: disks, and drives whose medium
 * can be ejected and inserted while the guest runs. Each medium is a remote device behind a virtual
 * I/O client of its own.
 */
import { FarbusError } from '../base/errors.js';
import { silent, type Logger } from '../base/log.js';
import type { BlockDevice } from '../block/device.js';
import { AtaDisk } from '../device/ata/disk.js';
import { AhciController, type AhciOptions } from '../device/ahci/controller.js';
import type { EjectResult } from '../device/scsi/medium-bay.js';
import { PacketDrive } from '../device/ata/packet-drive.js';
import type { SataDevice } from '../device/ata/sata-device.js';
import { checkDisk, identifyPlans, type IdentifiedPlan } from './drives.js';

interface Port {
  readonly plan: IdentifiedPlan;
  /** Undefined if the port has no disk. */
  device: SataDevice | undefined;
  plugged: boolean;
  /** The remote device that is the present medium. */
  far: BlockDevice | undefined;
}

export interface AhciDrivesOptions extends Omit<AhciOptions, 'ports'> {
  readonly plans: readonly IdentifiedPlan[];
  /** Wraps a remote device in a virtual I/O client. */
  readonly reach: (far: BlockDevice) => BlockDevice;
  /** Called when a guest has ejected the medium of drive `index`. The medium is not closed. */
  readonly onEject: (index: number, far: BlockDevice) => void;
}

/** The drives on a computer's AHCI adapter, whose media can be exchanged while it runs. */
export class AhciDrives {
  /** @internal */
  readonly controller: AhciController;
  readonly #ports: readonly Port[];
  readonly #reach: (far: BlockDevice) => BlockDevice;
  readonly #log: Logger;

  constructor(options: AhciDrivesOptions) {
    const { plans, reach, onEject } = options;
    this.#reach = reach;
    this.#log = options.log ?? silent;
    this.controller = new AhciController({ ...options, ports: plans.length });
    this.#ports = plans.map((plan, number) => {
      const port: Port = { plan, device: this.#make(plan), plugged: true, far: plan.device };
      if (!port.device) return port;
      if (port.device instanceof PacketDrive) {
        port.device.onGuestEject = () => {
          const { far } = port;
          port.far = undefined;
          if (far) onEject(plan.index, far);
        };
      }
      this.controller.plug(number, port.device);
      return port;
    });
  }

  /** The remote device behind drive `index`; undefined if the drive is empty. */
  mediumOf(index: number): BlockDevice | undefined {
    return this.#port(index).far;
  }

  /**
   * Inserts a medium into a removable drive.
   * @throws FarbusError if the drive is not removable, has a medium, or cannot use this one
   */
  insert(index: number, far: BlockDevice): void {
    const { device } = this.#port(index);
    if (!(device instanceof PacketDrive))
      throw new FarbusError(`drive ${index} is not removable: nothing to insert into`);
    try {
      device.insert(this.#reach(far));
    } catch (error) {
      if (error instanceof RangeError) throw new FarbusError(`drive ${index}: ${error.message}`);
      throw error;
    }
    this.#port(index).far = far;
  }

  /**
   * Ejects the medium of a removable drive. Returns `locked` if the guest has locked the medium:
   * the guest has then been asked to eject it. With `force` it is ejected anyway. The remote device
   * is not closed.
   * @throws FarbusError if the drive is not removable
   */
  eject(index: number, force = false): EjectResult {
    const port = this.#port(index);
    if (!(port.device instanceof PacketDrive)) throw new FarbusError(`drive ${index} is not removable`);
    const result = port.device.eject(force);
    if (result === 'ejected') port.far = undefined;
    return result;
  }

  /** Disconnects a drive from its port, even while the guest uses it. */
  unplug(index: number): void {
    const port = this.#port(index);
    this.controller.unplug(this.#ports.indexOf(port));
    port.plugged = false;
  }

  /** Connects the drive again. */
  plug(index: number): void {
    const port = this.#port(index);
    if (port.plugged) return;
    port.plugged = true;
    if (port.device) this.controller.plug(this.#ports.indexOf(port), port.device);
  }

  /**
   * Attaches a disk to a port that has none, while the guest runs.
   * @throws FarbusError if the port is not for disks or has one, or if a guest cannot use this one
   */
  async attach(index: number, far: BlockDevice): Promise<void> {
    const port = this.#port(index);
    if (port.plan.kind !== 'disk') throw new FarbusError(`drive ${index} is removable: insert a medium instead`);
    checkDisk(far, index);
    const [plan] = await identifyPlans([{ ...port.plan, device: far }], this.#log);
    if (port.far) throw new FarbusError(`drive ${index} has a disk: detach it first`);
    Object.assign(port.plan.identity, plan!.identity);
    port.far = far;
    port.device = this.#make({ ...port.plan, device: far })!;
    port.plugged = true;
    this.controller.plug(this.#ports.indexOf(port), port.device);
  }

  /**
   * Takes the disk off a port, even while the guest uses it: its commands are given up. The remote
   * device is not closed.
   * @returns the remote device; undefined if there was none
   */
  detach(index: number): BlockDevice | undefined {
    const port = this.#port(index);
    if (port.plan.kind !== 'disk') throw new FarbusError(`drive ${index} is removable: eject its medium instead`);
    const { far } = port;
    this.unplug(index);
    port.device = undefined;
    port.far = undefined;
    return far;
  }

  #make({ kind, device, identity }: IdentifiedPlan): SataDevice | undefined {
    const medium = device && this.#reach(device);
    if (kind === 'disk') return medium && new AtaDisk(medium, identity);
    return new PacketDrive({ kind, identity, medium });
  }

  #port(index: number): Port {
    const port = this.#ports.find(({ plan }) => plan.index === index);
    if (!port) throw new FarbusError(`drive ${index} is not on the AHCI adapter`);
    return port;
  }
}
