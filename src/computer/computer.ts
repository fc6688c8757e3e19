/**
 * A computer: an unmodified operating system on our hypervisor. This file puts engine, trap,
 * logical devices with their virtual I/O clients, and the shared network adapter together, and
 * boots.
 *
 * Not here: the parts that only a client or a server has ([SYS] fig. 2, 3; client.ts, server.ts).
 */
import { FarbusError } from '../base/errors.js';
import { silent, type Logger } from '../base/log.js';
import { Steps, type StepId } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import * as ahci from '../device/ahci/controller.js';
import * as nvme from '../device/nvme/controller.js';
import type { CommandTimes } from '../device/command-times.js';
import { loadLinux, type LinuxImage } from '../machine/boot/linux.js';
import { installedHandler, protectionVectors } from '../machine/descriptor-table.js';
import type { BootPlace, Engine, InterruptLine } from '../machine/engine.js';
import { ideSlot, type IdeDisk } from '../machine/ide-disk.js';
import { pciConfig, type PciIdentity } from '../machine/pci.js';
import { SnapshotError, type Snapshot } from '../machine/snapshot.js';
import { TrapHandler, type GuardedDevice, type Trap, type TrapCounts } from '../machine/trap.js';
import { AhciDrives } from './ahci-drives.js';
import { SerialConsole } from './console.js';
import { ScreenConsole } from './screen-console.js';
import { ideDisks } from './ide-drives.js';
import { identifyPlans, planDrive, type ClientDrive, type DriveBus, type IdentifiedPlan } from './drives.js';
import { Legs, type LegMedians } from './legs.js';
import { checkReach } from './reach.js';
import { checkSame, driveFacts, goOnAs, type Drive } from './same-drive.js';
import type { SharedAdapter } from './shared-adapter.js';
import { VirtualIoClient, type IoCounts } from './virtual-io-client.js';

/** First PCI slot and first register address of logical devices. */
const firstSlot = 8;
const firstBase = 0xfe000000;
const baseStep = 0x20000;
/** Logical devices use the slots 8 to 29. */
export const maxDrives = 22;

export interface ComputerOptions {
  /**
   * Creates the engine, which the composition root chooses. If there is an adapter, the engine must
   * have a network card with the adapter's MAC address.
   */
  readonly createEngine: (
    trap: TrapHandler,
    onEnd: (why: EndReason) => void,
    ide: readonly IdeDisk[],
  ) => Promise<Engine>;
  /**
   * The drives in the guest's order. A plain block device becomes an NVMe disk. The computer does
   * not close the devices.
   */
  readonly drives: readonly (BlockDevice | ClientDrive)[];
  /** Called when a guest has ejected the medium of drive `index`. The medium is not closed. */
  readonly onEject?: (index: number, medium: BlockDevice) => void;
  /**
   * The network connection of the operating system's network card. The computer does not close it.
   */
  readonly adapter?: SharedAdapter | undefined;
  readonly steps?: Steps;
  readonly log?: Logger;
}

/**
 * The numbers that [SYS] fig. 11 (client) or fig. 12 (server) gives to the steps of a computer's
 * boot.
 */
export interface BootFigure {
  readonly loader: StepId;
  readonly hypervisor: StepId;
  readonly privileged: StepId;
  readonly protect: StepId;
  /** Arriving frames come to the hypervisor first. */
  readonly frames: StepId | undefined;
  readonly system: StepId;
  /**
   * True if the drives are logical devices, whose commands take the steps of fig. 4 to 8. False if
   * they are local disks.
   */
  readonly logicalDevices: boolean;
  /** The operating system has installed its own protection handler, and its own receive handler. */
  readonly handler: StepId;
  readonly receiver: StepId | undefined;
}

/**
 * Reason why the guest ended: halted with interrupts off, asked for a reset, or made the engine
 * fail.
 */
export type EndReason = 'halted' | 'reset' | 'failed';

/** The reason for people; completes "the guest ". */
export const endText: Readonly<Record<EndReason, string>> = {
  halted: 'has halted',
  reset: 'asked for a restart',
  failed: 'reached a state in which the engine cannot continue',
};

/** The guest ended by itself while a script waited for its console. */
export class GuestEnded extends Error {
  override readonly name = 'GuestEnded';
  readonly why: EndReason;

  /** @param panic Reason of the kernel panic that was printed before, if there was one. */
  constructor(why: EndReason, panic: string | undefined) {
    super(panic === undefined ? `the guest ${endText[why]}` : `the guest's kernel panicked: ${panic}`);
    this.why = why;
  }
}

/** Counts since the start, for summaries, benchmarks and tests. */
export interface ComputerCounts {
  readonly traps: Readonly<TrapCounts>;
  readonly io: Readonly<IoCounts>;
  /** Number of commands completed on I/O queues, and of interrupts raised for them. */
  readonly commands: number;
  readonly interrupts: number;
  readonly legs: LegMedians;
}

/** The part of a controller that the computer uses: it is paused, saved and restored as a whole. */
interface LogicalDevice extends GuardedDevice {
  readonly counts: { readonly commands: number; readonly interrupts: number };
  connect(line: InterruptLine): void;
  pause(): Promise<void>;
  resume(): void;
  save(): unknown;
  restore(state: never): void;
}

/** The parts from which the constructor builds a computer. */
export interface Prepared {
  readonly engine: Engine;
  readonly trap: TrapHandler;
  readonly steps: Steps;
  readonly ended: Promise<EndReason>;
  readonly options: ComputerOptions;
  readonly figure: BootFigure;
  readonly plans: readonly IdentifiedPlan[];
  /** Virtual I/O clients of the drives on the engine's own IDE controller. */
  readonly ideClients: readonly VirtualIoClient[];
}

export class Computer {
  readonly console: SerialConsole;
  /** The guest's screen and keyboard. */
  readonly screen: ScreenConsole;
  /** Resolves when the guest ends by itself. */
  readonly ended: Promise<EndReason>;
  /**
   * The drives on the AHCI adapter; undefined if there are none. Media are exchanged and drives
   * plugged through it.
   */
  readonly ahci: AhciDrives | undefined;
  /** The network connection of the guest's card; undefined if it has none. */
  readonly adapter: SharedAdapter | undefined;
  readonly #engine: Engine;
  readonly #steps: Steps;
  /** The steps of the drives' commands. */
  readonly #commandSteps: Steps;
  readonly #trap: TrapHandler;
  readonly #controllers: LogicalDevice[] = [];
  readonly #clients: VirtualIoClient[] = [];
  /** The boot place of each drive, in the order of the drives. */
  readonly #places: BootPlace[];
  /** The present remote device of each drive. */
  readonly #media: readonly (() => BlockDevice | undefined)[];
  readonly #plans: readonly IdentifiedPlan[];
  readonly #legs = new Legs();
  readonly #figure: BootFigure;
  #handlersRecorded = false;
  #held = false;
  #saving = false;

  /** Creates everything that must exist before the computer: its trap and its engine. */
  protected static async prepare(options: ComputerOptions, figure: BootFigure): Promise<Prepared> {
    if (options.drives.length > maxDrives) throw new FarbusError(`a computer can have ${maxDrives} drives, not more`);
    const steps = options.steps ?? new Steps();
    const trap = new TrapHandler(steps);
    let end: (why: EndReason) => void = () => undefined;
    const ended = new Promise<EndReason>((resolve) => (end = resolve));
    steps.step(0, figure.loader, 'the program loader starts');
    const plans = await identifyPlans(options.drives.map(planDrive), options.log ?? silent);
    const onIde = plans.filter(({ bus }) => bus === 'ide');
    const ideClients = onIde.map(({ device }) => new VirtualIoClient(device!, commandSteps(figure, steps)));
    const engine = await options.createEngine(trap, end, ideDisks(onIde, ideClients));
    steps.step(0, figure.hypervisor, 'the hypervisor is loaded and starts');
    steps.step(0, figure.privileged, 'it has the privileged level: the guest runs on its engine only');
    return { engine, trap, steps, ended, options, figure, plans, ideClients };
  }

  protected constructor({ engine, trap, steps, ended, options, figure, plans, ideClients }: Prepared) {
    this.#engine = engine;
    this.#trap = trap;
    this.#steps = steps;
    this.#figure = figure;
    this.#commandSteps = commandSteps(figure, steps);
    this.#clients.push(...ideClients);
    if (options.drives.length === 0) steps.step(0, figure.protect, 'no logical device: nothing is to be guarded');
    this.ended = ended;
    const log = options.log ?? silent;
    for (const plan of plans) if (plan.bus === 'nvme') this.#addNvme(plan, log);
    this.screen = new ScreenConsole(engine);
    const onAhci = plans.filter(({ bus }) => bus === 'ahci');
    if (onAhci.length > 0) this.ahci = this.#addAhci(onAhci, log, options.onEject ?? (() => undefined));
    this.#media = plans.map(
      ({ index, bus, device }) =>
        () =>
          bus === 'ahci' ? this.ahci?.mediumOf(index) : device,
    );
    this.#plans = plans;
    this.#places = bootPlaces(plans);
    this.adapter = options.adapter;
    if (options.adapter) this.#connect(options.adapter);
    this.console = new SerialConsole((bytes) => engine.sendSerial(bytes));
    engine.onSerial((byte) => this.console.receive(byte));
    void ended.then((why) => this.console.close(new GuestEnded(why, this.console.panic)));
  }

  /** [SYS] fig. 11, step 325; fig. 12, step 346: loads an operating system and starts it. */
  boot(image: LinuxImage): void {
    const entry = loadLinux(this.#engine.memory, image);
    this.#engine.enter(entry);
    this.#steps.step(0, this.#figure.system, 'the operating system is loaded and started');
    this.#engine.start();
  }

  /**
   * Like {@link boot}, but starts the firmware, which boots from the first drive that it can boot
   * from.
   */
  bootFirmware(): void {
    this.#engine.enterFirmware(this.#places);
    this.#steps.step(0, this.#figure.system, 'the firmware starts, which loads the operating system from a drive');
    this.#engine.start();
  }

  /** Calls `receive` with each raw byte of the serial console, for a terminal. */
  onSerial(receive: (byte: number) => void): void {
    this.#engine.onSerial(receive);
  }

  /** Sends bytes to the serial console. Resolves when the guest's port has accepted them. */
  sendSerial(bytes: Uint8Array): Promise<void> {
    return this.#engine.sendSerial(bytes);
  }

  /** Stops the guest while its console output cannot be written, as a blocked serial line would. */
  hold(): void {
    if (this.#held) return;
    this.#held = true;
    if (!this.#saving) void this.#engine.pause();
  }

  /** Resumes the guest after {@link hold}. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    if (!this.#saving) this.#engine.start();
  }

  get counts(): ComputerCounts {
    const io: IoCounts = { reads: 0, writes: 0, others: 0, readBytes: 0, writtenBytes: 0, errors: 0 };
    for (const { counts } of this.#clients) {
      for (const key of Object.keys(io) as (keyof IoCounts)[]) io[key] += counts[key];
    }
    return {
      traps: { ...this.#trap.counts },
      io,
      commands: sum(this.#controllers, ({ counts }) => counts.commands),
      interrupts: sum(this.#controllers, ({ counts }) => counts.interrupts),
      legs: this.#legs.medians(),
    };
  }

  /**
   * Saves the computer: processor, memory, board and logical devices. The guest is paused
   * meanwhile, and no command is in flight.
   * @param key Identifies the snapshot: kernel, initramfs, command line, engine version.
   * @throws SnapshotError if a remote device does not answer, since commands in flight could then
   *   not end
   */
  async save(key: string): Promise<Snapshot> {
    await checkReach(this.#media.map((medium) => medium()));
    this.#saving = true;
    await this.#engine.pause();
    try {
      await Promise.all(this.#controllers.map((controller) => controller.pause()));
      const devices = this.#controllers.map((controller) => controller.save());
      const drives = await Promise.all(this.#drives().map((drive, i) => driveFacts(drive, this.#plans[i]!.identity)));
      return { key, drives, devices, engine: await this.#engine.saveState() };
    } finally {
      for (const controller of this.#controllers) controller.resume();
      this.#saving = false;
      if (!this.#held) this.#engine.start();
    }
  }

  /**
   * Starts from a snapshot instead of booting. The remote devices must be the ones that the
   * snapshot was taken with.
   * @throws SnapshotError if the snapshot is of another computer or another disk; the computer can
   *   then still be booted
   */
  async restore(snapshot: Snapshot, key: string): Promise<void> {
    if (snapshot.key !== key) throw new SnapshotError('it is of another kernel, command line or version');
    const now = this.#drives();
    if (snapshot.drives.length !== now.length) {
      throw new SnapshotError(`it has ${snapshot.drives.length} drives, this computer ${now.length}`);
    }
    await checkReach(now.map(({ medium }) => medium));
    await Promise.all(snapshot.drives.map((then, i) => checkSame(then, now[i]!)));
    this.#plans.forEach(({ identity, ...said }, i) => goOnAs(identity, snapshot.drives[i]!.shown, said));
    await this.#engine.restoreState(snapshot.engine);
    this.#controllers.forEach((controller, i) => controller.restore(snapshot.devices[i] as never));
    this.#steps.step(0, this.#figure.system, 'the operating system continues from a snapshot');
    for (const controller of this.#controllers) controller.resume();
    this.#engine.start();
  }

  /** Ends the machine. Commands in flight are given up; media are not closed. */
  stop(): Promise<void> {
    this.console.close();
    return this.#engine.stop();
  }

  #addNvme({ device, identity }: IdentifiedPlan, log: Logger): void {
    const controller = new nvme.NvmeController({
      ...this.#context(log),
      disk: this.#reach(device!),
      identity,
    });
    // PCI class: mass storage, non-volatile memory, NVM Express.
    this.#addController(controller, { vendor: nvme.vendorId, device: nvme.deviceId, classCode: [0x01, 0x08, 0x02] });
  }

  /** Adds one AHCI adapter, with a port for each drive. */
  #addAhci(
    plans: readonly IdentifiedPlan[],
    log: Logger,
    onEject: NonNullable<ComputerOptions['onEject']>,
  ): AhciDrives {
    const reach = (far: BlockDevice) => this.#reach(far);
    const drives = new AhciDrives({ ...this.#context(log), plans, reach, onEject });
    const { vendorId: vendor, deviceId: device, classCode, barIndex } = ahci;
    this.#addController(drives.controller, { vendor, device, classCode, barIndex });
    return drives;
  }

  #reach(far: BlockDevice): VirtualIoClient {
    const client = new VirtualIoClient(far, this.#commandSteps);
    this.#clients.push(client);
    return client;
  }

  /** The options common to all controllers. Their registers get the next free address. */
  #context(log: Logger) {
    return {
      base: firstBase + this.#controllers.length * baseStep,
      memory: this.#engine.memory,
      steps: this.#commandSteps,
      attribute: (tag: number, trap: Trap) => this.#attribute(tag, trap),
      onCommand: (times: CommandTimes) => this.#legs.add(times),
      log,
    };
  }

  #addController(
    controller: LogicalDevice,
    identity: Pick<PciIdentity, 'vendor' | 'device' | 'classCode' | 'barIndex'>,
  ): void {
    const { name, base, size } = controller;
    const { barIndex = 0 } = identity;
    this.#trap.guard(controller);
    const config = pciConfig({ ...identity, revision: 1, barBase: base, interruptPin: 1 });
    const slot = firstSlot + this.#controllers.length;
    controller.connect(this.#engine.addPci({ name, slot, config, barIndex, barBase: base, barSize: size }));
    this.#steps.step(
      0,
      this.#figure.protect,
      `nothing is mapped at 0x${base.toString(16)}: access to ${name} comes to 300`,
    );
    this.#controllers.push(controller);
  }

  /**
   * Connects the adapter: from now on, arriving frames come to the hypervisor first ([SYS] fig. 12,
   * step 345).
   */
  #connect(adapter: SharedAdapter): void {
    const card = this.#engine.network;
    if (!card) throw new FarbusError('this engine has no network card');
    adapter.connect(card, () => {
      this.#recordHandlers();
      this.#recordHandler(this.#figure.receiver, card.interruptVector(), 'receive handler');
    });
    const { frames } = this.#figure;
    if (frames) this.#steps.step(0, frames, 'frames that arrive come to 280 before the operating system sees them');
  }

  #attribute(tag: number, trap: Trap): void {
    this.#trap.attribute(tag, trap);
    this.#recordHandlers();
  }

  /**
   * [SYS] fig. 6, steps 301 and 302; fig. 7, steps 381 and 382: by the time of its first command or
   * frame, the operating system has installed its handlers. They remain its own; they are only
   * recorded.
   */
  #recordHandlers(): void {
    if (this.#handlersRecorded || !this.#steps.on) return;
    this.#handlersRecorded = true;
    this.#recordHandler(this.#figure.handler, protectionVectors.pageFault, 'handler');
  }

  #recordHandler(step: StepId | undefined, vector: number | undefined, what: string): void {
    if (step === undefined || vector === undefined || !this.#steps.on) return;
    const handler = installedHandler(this.#engine.memory, this.#engine.descriptors(), vector);
    if (handler === undefined) return;
    this.#steps.step(0, step, `the operating system has installed its ${what} at 0x${handler.toString(16)}: recorded`);
  }

  #drives(): Drive[] {
    return this.#plans.map(({ index, assumeSame }, i) => ({ index, assumeSame, medium: this.#media[i]!() }));
  }
}

/** The drives of a server computer are local disks, so their commands report no steps. */
function commandSteps(figure: BootFigure, steps: Steps): Steps {
  return figure.logicalDevices ? steps : new Steps();
}

/**
 * The boot places of the drives. Each NVMe controller has a slot of its own; the AHCI adapter has
 * the slot after them.
 */
function bootPlaces(plans: readonly IdentifiedPlan[]): BootPlace[] {
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
