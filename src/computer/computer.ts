/**
 * A computer: an unmodified operating system on our hypervisor. This file puts engine, trap,
 * logical devices and the shared network adapter together, boots, and saves and restores snapshots.
 *
 * Not here: the parts that only a client or a server has ([SYS] fig. 2, 3; client.ts, server.ts).
 */
import { untilAbort } from '../base/abort.js';
import { FarbusError } from '../base/errors.js';
import { silent } from '../base/log.js';
import { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import { loadLinux, type LinuxImage } from '../machine/boot/linux.js';
import { is64Bit, loadPvh } from '../machine/boot/pvh.js';
import type { Engine, EngineEnd, EngineSnapshots, ProtectedModeEntry } from '../machine/engine.js';
import { SnapshotError, type Snapshot } from '../machine/snapshot.js';
import { TrapHandler } from '../machine/trap.js';
import type { AhciDrives } from './ahci-drives.js';
import { commandSteps, type BootFigure } from './boot-figure.js';
import { SerialConsole } from './console.js';
import { ScreenConsole } from './screen-console.js';
import { GuestEnded } from './guest-end.js';
import { GuestHandlers } from './guest-handlers.js';
import { ideDisks } from './ide-drives.js';
import { identifyPlans, maxDrives, planDrive, type IdentifiedPlan } from './drives.js';
import { LogicalDevices, bootPlaces } from './logical-devices.js';
import type { ComputerCounts, ComputerOptions, SaveOptions } from './options.js';
import { checkReach } from './reach.js';
import { RecentWrites } from './recent-writes.js';
import { checkSame, driveFacts, goOnAs, type Drive } from './same-drive.js';
import type { SharedAdapter } from './shared-adapter.js';
import { VirtualIoClient } from './virtual-io-client.js';

/** The parts from which the constructor builds a computer. */
export interface Prepared {
  readonly engine: Engine;
  readonly trap: TrapHandler;
  readonly steps: Steps;
  readonly ended: Promise<EngineEnd>;
  /** The engine's words about the end; undefined if it has none. */
  readonly endDetail: () => string | undefined;
  readonly options: ComputerOptions;
  readonly figure: BootFigure;
  readonly plans: readonly IdentifiedPlan[];
  /** Virtual I/O clients of the drives on the engine's own IDE controller. */
  readonly ideClients: readonly VirtualIoClient[];
}

/** A reason for processors to stand still; `end` is for good. */
type Stop = 'console' | 'user' | 'snapshot' | 'end';

/** A computer with an unmodified operating system: what clients and servers have in common. */
export class Computer {
  /** The serial console. */
  readonly console: SerialConsole;
  /** The guest's screen and keyboard; undefined if its board has none. */
  readonly screen: ScreenConsole | undefined;
  /** Resolves when the guest ends by itself. */
  readonly ended: Promise<EngineEnd>;
  /**
   * The drives on the AHCI adapter; undefined if there are none. Media are exchanged and drives
   * plugged through it.
   */
  readonly ahci: AhciDrives | undefined;
  /** The network connection of the guest's card; undefined if it has none. */
  readonly adapter: SharedAdapter | undefined;
  readonly #engine: Engine;
  readonly #steps: Steps;
  readonly #trap: TrapHandler;
  readonly #devices: LogicalDevices;
  readonly #handlers: GuestHandlers;
  readonly #ideClients: readonly VirtualIoClient[];
  /** The present remote device of each drive. */
  readonly #media: readonly (() => BlockDevice | undefined)[];
  readonly #plans: readonly IdentifiedPlan[];
  readonly #figure: BootFigure;
  readonly #endDetail: () => string | undefined;
  /** Why its processors stand still now. */
  readonly #stops = new Set<Stop>();
  #started = false;
  /** True while the engine runs or is about to. */
  #running = false;
  /**
   * True if the devices go on when the guest does. Commands that it had given before it was saved
   * wait: if it does not go on, the drives stay as its snapshot has them.
   */
  #devicesPaused = false;
  /** Settles when the engine has done what the last change of `#stops` asked for. */
  #settled: Promise<void> = Promise.resolve();

  /** Creates everything that must exist before the computer: its trap and its engine. */
  protected static async prepare(options: ComputerOptions, figure: BootFigure): Promise<Prepared> {
    if (options.drives.length > maxDrives) throw new FarbusError(`a computer can have ${maxDrives} drives, not more`);
    const steps = options.steps ?? new Steps();
    const trap = new TrapHandler(steps);
    let end: (why: EngineEnd, detail?: string) => void = () => undefined;
    let endDetail: string | undefined;
    const ended = new Promise<EngineEnd>((resolve) => {
      end = (why, detail) => {
        endDetail = detail;
        resolve(why);
      };
    });
    steps.step(0, figure.loader, 'the program loader starts');
    const plans = await identifyPlans(options.drives.map(planDrive), options.log ?? silent);
    const onIde = plans.filter(({ bus }) => bus === 'ide');
    const ideClients = onIde.map(({ device }) => new VirtualIoClient(device!, commandSteps(figure, steps)));
    const engine = await options.createEngine(trap, end, ideDisks(onIde, ideClients));
    if (onIde.length !== (engine.ide?.disks ?? 0)) {
      await engine.stop();
      throw new FarbusError('this engine has no IDE controller: put the drive on another bus');
    }
    steps.step(0, figure.hypervisor, 'the hypervisor is loaded and starts');
    steps.step(0, figure.privileged, 'it has the privileged level: the guest runs on its engine only');
    return { engine, trap, steps, ended, endDetail: () => endDetail, options, figure, plans, ideClients };
  }

  protected constructor({ engine, trap, steps, ended, endDetail, options, figure, plans, ideClients }: Prepared) {
    this.#engine = engine;
    this.#trap = trap;
    this.#steps = steps;
    this.#figure = figure;
    this.#ideClients = ideClients;
    this.ended = ended;
    this.#endDetail = endDetail;
    this.#handlers = new GuestHandlers(engine, steps, figure);
    const { log = silent, onEject = () => undefined } = options;
    this.#devices = new LogicalDevices({ engine, trap, steps, figure, handlers: this.#handlers, log, plans, onEject });
    this.ahci = this.#devices.ahci;
    this.screen = engine.screen && new ScreenConsole(engine.screen);
    this.#media = plans.map(
      ({ index, bus, device }) =>
        () =>
          bus === 'ahci' ? this.ahci?.mediumOf(index) : device,
    );
    this.#plans = plans;
    this.adapter = options.adapter;
    if (options.adapter) this.#connect(options.adapter);
    this.console = new SerialConsole((bytes) => engine.sendSerial(bytes));
    engine.onSerial((byte) => this.console.receive(byte));
    void ended.then((why) => this.console.close(new GuestEnded(why, this.console.panic, endDetail())));
  }

  /** [SYS] fig. 11, step 325; fig. 12, step 346: loads an operating system and starts it. */
  boot(image: LinuxImage): void {
    this.#engine.enter(load(this.#engine, image));
    this.#steps.step(0, this.#figure.system, 'the operating system is loaded and started');
    this.#start();
  }

  /**
   * Like {@link boot}, but starts the firmware, which boots from the first drive that it can boot
   * from.
   * @throws FarbusError if the computer has no firmware
   */
  bootFirmware(): void {
    if (!this.#engine.enterFirmware) throw new FarbusError('it has no firmware: give it a kernel');
    this.#engine.enterFirmware(bootPlaces(this.#plans));
    this.#steps.step(0, this.#figure.system, 'the firmware starts, which loads the operating system from a drive');
    this.#start();
  }

  /** The engine's words about the end of the guest; undefined if it has none. */
  get endDetail(): string | undefined {
    return this.#endDetail();
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
    void this.#stop('console');
  }

  /** Resumes the guest after {@link hold}. */
  release(): void {
    void this.#goOn('console');
  }

  /** True after {@link pause}, until {@link resume}. */
  get paused(): boolean {
    return this.#stops.has('user');
  }

  /**
   * Stops the guest between two instructions, until {@link resume}. Its requests in flight go on.
   * @throws FarbusError if it has not started
   */
  async pause(): Promise<void> {
    if (!this.#started) throw new FarbusError('it has not started yet');
    await this.#stop('user');
  }

  /** Resumes the guest after {@link pause}. */
  async resume(): Promise<void> {
    await this.#goOn('user');
  }

  /** Counts since the start. */
  get counts(): ComputerCounts {
    return {
      traps: { ...this.#trap.counts },
      io: this.#devices.io(this.#ideClients),
      ...this.#devices.counts,
      legs: this.#devices.legs.medians(),
      ...(this.#engine.exits && { exits: this.#engine.exits }),
    };
  }

  /** True if {@link save} works with its engine. */
  get canSave(): boolean {
    return this.#engine.snapshots !== undefined;
  }

  /** Kind of the engine's snapshots (EngineSnapshots.kind). */
  get snapshotKind(): string | undefined {
    return this.#engine.snapshots?.kind;
  }

  /**
   * Saves the computer: processor, memory, board and logical devices. The guest is paused
   * meanwhile, and no command is in flight. Its disks are flushed.
   * @param key Identifies the snapshot: kernel, initramfs, command line, engine version.
   * @throws SnapshotError if a remote device does not answer, since commands in flight could then
   *   not end; or if the computer has not started or ends
   */
  async save(key: string, { unused = false, signal }: SaveOptions = {}): Promise<Snapshot> {
    const engine = this.#snapshots();
    if (!this.#started) throw new SnapshotError('it has not started yet');
    await checkReach(this.#media.map((medium) => medium()));
    if (this.#stops.has('snapshot')) throw new SnapshotError('another snapshot of it is being taken');
    try {
      await this.#stop('snapshot');
      this.#devicesPaused = true;
      await untilAbort(signal, this.#devices.pause());
      const devices = this.#devices.save();
      if (this.#stops.has('end')) throw new SnapshotError('the computer ends');
      // Before the drives are read: a drive of the engine's own controller may have a command in
      // flight until then.
      const state = await untilAbort(signal, engine.save());
      const facts = this.#drives().map((drive, i) => driveFacts(drive, this.#plans[i]!.identity, unused));
      const drives = await untilAbort(signal, Promise.all(facts));
      if (this.#stops.has('end')) throw new SnapshotError('the computer ends');
      return { key, drives, devices, engine: state };
    } finally {
      void this.#goOn('snapshot');
    }
  }

  /**
   * Starts from a snapshot instead of booting. The remote devices must be the ones that the
   * snapshot was taken with, and must not have been written since, unless the guest had not used
   * them.
   * @param options `evenIfWritten`: go on even if a disk was written since. The guest can then
   *   destroy what is on it. Default: false.
   * @throws SnapshotError if the snapshot is of another computer or another disk, or if a disk was
   *   written; the computer can then still be booted
   */
  async restore(
    snapshot: Snapshot,
    key: string,
    { evenIfWritten = false }: { readonly evenIfWritten?: boolean } = {},
  ): Promise<void> {
    const engine = this.#snapshots();
    if (snapshot.key !== key)
      throw new SnapshotError('it is of another engine, another kernel, command line or version');
    const now = this.#drives();
    if (snapshot.drives.length !== now.length) {
      throw new SnapshotError(`it has ${snapshot.drives.length} drives, this computer ${now.length}`);
    }
    await checkReach(now.map(({ medium }) => medium));
    await Promise.all(snapshot.drives.map((then, i) => checkSame(then, now[i]!, evenIfWritten)));
    snapshot.drives.forEach(({ content }, i) => this.#goOnWriting(now[i]!.medium, content?.recent));
    this.#plans.forEach(({ identity, ...said }, i) => goOnAs(identity, snapshot.drives[i]!.shown, said));
    await engine.restore(snapshot.engine);
    try {
      this.#devices.restore(snapshot.devices);
    } catch (error) {
      // The engine is the snapshot's already, so that this computer cannot boot any more.
      throw new FarbusError('the states of its devices are damaged', { cause: error });
    }
    this.#steps.step(0, this.#figure.system, 'the operating system continues from a snapshot');
    this.#devices.resume();
    this.#start();
  }

  /** Ends the machine. Commands in flight are given up; media are not closed. */
  stop(): Promise<void> {
    // A snapshot that is being taken must not start the engine again.
    this.#stops.add('end');
    this.console.close();
    return this.#engine.stop();
  }

  #start(): void {
    this.#started = true;
    if (this.#stops.size > 0) return;
    this.#running = true;
    this.#engine.start();
  }

  /** Resolves when the guest stands still, unless it was allowed to go on meanwhile. */
  #stop(why: Stop): Promise<void> {
    this.#stops.add(why);
    return this.#settle();
  }

  /** Resumes the guest if nothing else stops it. */
  #goOn(why: Stop): Promise<void> {
    this.#stops.delete(why);
    return this.#settle();
  }

  /**
   * Starts or pauses the engine as `#stops` says. One step follows the other, because an engine
   * that is started while it pauses may never tell that it has paused; and of two requests at the
   * same time the later one decides.
   */
  #settle(): Promise<void> {
    this.#settled = this.#settled
      .catch(() => undefined)
      .then(async () => {
        const runs = this.#started && this.#stops.size === 0;
        if (runs === this.#running) return;
        this.#running = runs;
        if (!runs) return this.#engine.pause();
        if (this.#devicesPaused) this.#devices.resume();
        this.#devicesPaused = false;
        this.#engine.start();
      });
    return this.#settled;
  }

  /**
   * Connects the adapter: from now on, arriving frames come to the hypervisor first ([SYS] fig. 12,
   * step 345).
   */
  #connect(adapter: SharedAdapter): void {
    const card = this.#engine.network ?? this.#devices.addNetworkCard(adapter.mac, adapter.segment.mtu);
    adapter.connect(card, () => this.#handlers.atFrame(card.interruptVector()));
    const { frames } = this.#figure;
    if (frames) this.#steps.step(0, frames, 'frames that arrive come to 280 before the operating system sees them');
  }

  /** @throws SnapshotError if the engine has no snapshots */
  #snapshots(): EngineSnapshots {
    const { snapshots } = this.#engine;
    if (!snapshots) throw new SnapshotError('this engine has no snapshots');
    return snapshots;
  }

  #drives(): Drive[] {
    return this.#plans.map(({ index, assumeSame }, i) => {
      const medium = this.#media[i]!();
      return { index, assumeSame, medium, recent: this.#clientOf(medium)?.recent ?? new RecentWrites() };
    });
  }

  #clientOf(medium: BlockDevice | undefined): VirtualIoClient | undefined {
    return [...this.#ideClients, ...this.#devices.clients].findLast(({ far }) => far === medium);
  }

  /** The guest of a snapshot writes on where it wrote last. */
  #goOnWriting(medium: BlockDevice | undefined, recent: readonly number[] | undefined): void {
    const client = this.#clientOf(medium);
    if (client && recent) client.recent = new RecentWrites(recent);
  }
}

/** Puts the kernel into memory by the boot protocol that it and the engine have. */
function load(engine: Engine, image: LinuxImage): ProtectedModeEntry {
  if (!is64Bit(image.vmlinux)) return loadLinux(engine.memory, image);
  const { acpiRoot } = engine;
  if (acpiRoot === undefined) throw new FarbusError('this kernel is for 64-bit processors: take --engine kvm');
  return loadPvh(engine.memory, image, acpiRoot);
}
