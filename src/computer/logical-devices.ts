/**
 * The logical devices of a computer: its NVMe controllers and its AHCI adapter, each on the board
 * and guarded by the trap, with a virtual I/O client for each remote device; and its network card,
 * if the board has none.
 *
 * Not here: disks on the engine's own IDE controller (ide-drives.ts).
 */
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import * as ahci from '../device/ahci/controller.js';
import type { CommandTimes } from '../device/command-times.js';
import * as nvme from '../device/nvme/controller.js';
import { VirtioNet } from '../device/virtio/net.js';
import type { BootPlace, Engine, PciConnection, PciFunction } from '../machine/engine.js';
import { ideSlot } from '../machine/ide-disk.js';
import type { NetworkCard } from '../machine/network-card.js';
import { pciConfig, type PciIdentity } from '../machine/pci.js';
import type { GuardedDevice, Trap, TrapHandler } from '../machine/trap.js';
import { AhciDrives } from './ahci-drives.js';
import { commandSteps, type BootFigure } from './boot-figure.js';
import type { DriveBus, IdentifiedPlan } from './drives.js';
import type { GuestHandlers } from './guest-handlers.js';
import { Legs } from './legs.js';
import { VirtualIoClient, type IoCounts } from './virtual-io-client.js';

/** First PCI slot and first register address of logical devices. */
const firstSlot = 8;
const firstBase = 0xfe000000;
const baseStep = 0x20000;
/** PCI slot and register address of the network card, before those. */
const cardSlot = 6;
const cardBase = firstBase - baseStep;

/** The part of a controller that the computer uses: it is paused, saved and restored as a whole. */
interface LogicalDevice extends GuardedDevice {
  readonly counts: { readonly commands: number; readonly interrupts: number };
  connect(connection: PciConnection): void;
  pause(): Promise<void>;
  resume(): void;
  save(): unknown;
  restore(state: never): void;
}

export interface LogicalDevicesOptions {
  readonly engine: Engine;
  readonly trap: TrapHandler;
  readonly steps: Steps;
  readonly figure: BootFigure;
  readonly handlers: GuestHandlers;
  readonly log: Logger;
  readonly plans: readonly IdentifiedPlan[];
  /** Called when a guest has ejected the medium of drive `index`. The medium is not closed. */
  readonly onEject: (index: number, medium: BlockDevice) => void;
}

export class LogicalDevices {
  /** The drives on the AHCI adapter; undefined if there are none. */
  readonly ahci: AhciDrives | undefined;
  readonly legs = new Legs();
  readonly #options: LogicalDevicesOptions;
  /** The steps of the drives' commands. */
  readonly #commandSteps: Steps;
  readonly #controllers: LogicalDevice[] = [];
  readonly #clients: VirtualIoClient[] = [];
  #card: VirtioNet | undefined;

  constructor(options: LogicalDevicesOptions) {
    this.#options = options;
    const { plans, figure, steps } = options;
    this.#commandSteps = commandSteps(figure, steps);
    if (plans.length === 0) steps.step(0, figure.protect, 'no logical device: nothing is to be guarded');
    for (const plan of plans) if (plan.bus === 'nvme') this.#addNvme(plan);
    const onAhci = plans.filter(({ bus }) => bus === 'ahci');
    if (onAhci.length > 0) this.ahci = this.#addAhci(onAhci);
  }

  get counts(): { readonly commands: number; readonly interrupts: number } {
    return {
      commands: sum(this.#controllers, ({ counts }) => counts.commands),
      interrupts: sum(this.#controllers, ({ counts }) => counts.interrupts),
    };
  }

  /** I/O of the virtual I/O clients, and of `others`. */
  io(others: readonly VirtualIoClient[]): IoCounts {
    const io: IoCounts = { reads: 0, writes: 0, others: 0, readBytes: 0, writtenBytes: 0, errors: 0 };
    for (const { counts } of [...others, ...this.#clients]) {
      for (const key of Object.keys(io) as (keyof IoCounts)[]) io[key] += counts[key];
    }
    return io;
  }

  /** The virtual I/O clients of all remote devices that a logical device has had. */
  get clients(): readonly VirtualIoClient[] {
    return this.#clients;
  }

  /** Resolves when no command is in flight, and none will be fetched. */
  async pause(): Promise<void> {
    this.#card?.pause();
    await Promise.all(this.#controllers.map((controller) => controller.pause()));
  }

  resume(): void {
    for (const controller of this.#controllers) controller.resume();
    this.#card?.resume();
  }

  /** The states of all controllers, and of the network card; they must be paused. */
  save(): unknown[] {
    const states = this.#controllers.map((controller) => controller.save());
    return this.#card ? [...states, this.#card.save()] : states;
  }

  restore(states: readonly unknown[]): void {
    this.#controllers.forEach((controller, i) => controller.restore(states[i] as never));
    this.#card?.restore(states[this.#controllers.length] as never);
  }

  /** Puts a network card on a board that has none of its own. */
  addNetworkCard(mac: Uint8Array, mtu: number): NetworkCard {
    const { engine, trap, log } = this.#options;
    const card = new VirtioNet({ base: cardBase, memory: engine.memory, mac, mtu, log });
    const { registers } = card;
    const { name, base: barBase, size: barSize, msix, pciConfig: config } = registers;
    trap.guard(registers);
    registers.connect(engine.addPci({ name, slot: cardSlot, config, barBase, barSize, msix }));
    return (this.#card = card);
  }

  #addNvme({ device, identity }: IdentifiedPlan): void {
    const controller = new nvme.NvmeController({
      ...this.#context(),
      disk: this.#reach(device!),
      identity,
    });
    // PCI class: mass storage, non-volatile memory, NVM Express.
    const identification = { vendor: nvme.vendorId, device: nvme.deviceId, classCode: [0x01, 0x08, 0x02] } as const;
    this.#addController(controller, identification, { msix: nvme.msix });
  }

  /** Adds one AHCI adapter, with a port for each drive. */
  #addAhci(plans: readonly IdentifiedPlan[]): AhciDrives {
    const { onEject } = this.#options;
    const reach = (far: BlockDevice) => this.#reach(far);
    const drives = new AhciDrives({ ...this.#context(), plans, reach, onEject });
    const { vendorId: vendor, deviceId: device, classCode, barIndex } = ahci;
    this.#addController(drives.controller, { vendor, device, classCode, barIndex }, { msi: true });
    return drives;
  }

  #reach(far: BlockDevice): VirtualIoClient {
    const client = new VirtualIoClient(far, this.#commandSteps);
    this.#clients.push(client);
    return client;
  }

  /** The options common to all controllers. Their registers get the next free address. */
  #context() {
    const { engine, trap, handlers, log } = this.#options;
    return {
      base: firstBase + this.#controllers.length * baseStep,
      memory: engine.memory,
      steps: this.#commandSteps,
      attribute: (traceId: number, from: Trap) => {
        trap.attribute(traceId, from);
        handlers.atCommand();
      },
      onCommand: (times: CommandTimes) => this.legs.add(times),
      log,
    };
  }

  #addController(
    controller: LogicalDevice,
    identity: Pick<PciIdentity, 'vendor' | 'device' | 'classCode' | 'barIndex'>,
    messages: Pick<PciFunction, 'msi' | 'msix'>,
  ): void {
    const { engine, trap, steps, figure } = this.#options;
    const { name, base, size } = controller;
    const { barIndex = 0 } = identity;
    trap.guard(controller);
    const config = pciConfig({ ...identity, revision: 1, barBase: base, interruptPin: 1 });
    const slot = firstSlot + this.#controllers.length;
    controller.connect(engine.addPci({ name, slot, config, barIndex, barBase: base, barSize: size, ...messages }));
    steps.step(0, figure.protect, `nothing is mapped at 0x${base.toString(16)}: access to ${name} comes to 300`);
    this.#controllers.push(controller);
  }
}

/**
 * The boot places of the drives, in their order. Each NVMe controller has a slot of its own; the
 * AHCI adapter has the slot after them.
 */
export function bootPlaces(plans: readonly IdentifiedPlan[]): BootPlace[] {
  const on = (bus: DriveBus) => plans.filter((plan) => plan.bus === bus);
  return plans.map((plan) => {
    const number = on(plan.bus).indexOf(plan);
    if (plan.bus === 'ide') return { slot: ideSlot, port: 0, unit: number };
    if (plan.bus === 'nvme') return { slot: firstSlot + number };
    return { slot: firstSlot + on('nvme').length, port: number };
  });
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0);
}
