/**
 * A computer as the worker of a tab runs it: the engine and the guest come from a Farbus server,
 * and its drives are ports for SATA disks, to which far disks are attached while it runs.
 *
 * The snapshot of the server holds a Debian that has just booted with empty ports. So one snapshot
 * fits every disk.
 *
 * Not here: the messages to the page (worker.ts).
 */
import { FarbusError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import { ClientComputer } from '../computer/client.js';
import type { ClientDrive } from '../computer/drives.js';
import type { Engine, Firmware } from '../machine/engine.js';
import { createV86With, type V86Class } from '../machine/engines/v86/engine.js';
import { decodeSnapshot, encodeSnapshot, type Snapshot } from '../machine/snapshot.js';
import type { RemoteState } from '../protocol/remote/reconnection.js';
import { openTabDrive, type TabDrive } from './drives.js';
import { GuestFiles } from './guest-files.js';
import type { MachineOptions, TabSystem } from './machine-options.js';
import { browserCodec } from './snapshot-codec.js';

/** Receives what happens in the computer. */
export interface MachineEvents {
  readonly log: Logger;
  serial(bytes: Uint8Array): void;
  /** The guest has ended by itself. */
  ended(why: string): void;
  /** The connection of a drive has changed. */
  drive(port: number, state: RemoteState, detail: string): void;
  /** The cache of a drive does not work or stops. */
  cache(port: number, trouble: string): void;
}

/** Time limit of a boot, in ms: an emulated processor on a slow computer. */
const bootMs = 600_000;

export class Machine {
  readonly computer: ClientComputer;
  readonly steps: Steps;
  readonly #options: MachineOptions;
  readonly #events: MachineEvents;
  readonly #key: string;
  /** The device at each port, which this machine has opened. */
  readonly #devices: (BlockDevice | undefined)[];

  private constructor(
    computer: ClientComputer,
    steps: Steps,
    options: MachineOptions,
    events: MachineEvents,
    key: string,
    devices: (BlockDevice | undefined)[],
  ) {
    this.computer = computer;
    this.steps = steps;
    this.#options = options;
    this.#events = events;
    this.#key = key;
    this.#devices = devices;
  }

  /**
   * Starts a computer. Resolves when its shell answers, or when the firmware has been started.
   * @throws FarbusError
   */
  static async start(options: MachineOptions, events: MachineEvents): Promise<Machine> {
    const { system = 'debian', saved } = options;
    if (typeof WebAssembly !== 'object') {
      throw new FarbusError(
        'this browser runs no WebAssembly, which the computer needs: allow it, or take another browser',
      );
    }
    const steps = new Steps();
    const files = await GuestFiles.load(options.guest, options.token);
    const { memory, ports, key } = files.system;
    const useSnapshot = system === 'debian' && saved === undefined && options.snapshot !== false;
    const snapshot = useSnapshot ? files.snapshot() : saved && decodeSnapshot(saved, browserCodec);
    const opening = openAll(options.drives ?? [], ports, { steps, events });
    // Both begin at once; a failure of one is reported when it is awaited.
    snapshot?.catch(() => undefined);
    opening.catch(() => undefined);
    const engine = engineOf(files, system);
    const devices = await opening;
    // Debian's kernel finds disks that are attached later. A firmware, or the guest of a snapshot
    // that was taken with disks, must have them from the start.
    const later = system === 'debian' && saved === undefined;
    let computer: ClientComputer | undefined;
    try {
      computer = await ClientComputer.create({
        drives: devices.map((device): ClientDrive => ({ device: later ? undefined : device, bus: 'ahci' })),
        createEngine: async (trap, onEnd) => (await engine)({ memory, trap, onEnd }),
        steps,
        log: events.log,
      });
      const machine = new Machine(computer, steps, options, events, key, devices);
      machine.#watch();
      await machine.#enter(files, await snapshot);
      if (later) await machine.#attachAll();
      return machine;
    } catch (error) {
      await computer?.stop();
      for (const device of devices) await device?.close();
      throw error;
    }
  }

  /** Attaches a disk to a port that has none, while the guest runs. Rejects with a FarbusError. */
  async attach(port: number, drive: TabDrive): Promise<void> {
    if (this.#devices[port]) throw new FarbusError(`port ${port} has a disk: detach it first`);
    const device = await openDrive(drive, port, { steps: this.steps, events: this.#events });
    try {
      await this.computer.ahci!.attach(port, device);
      this.#devices[port] = device;
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** Takes the disk off a port. What the guest has not flushed may be lost. */
  async detach(port: number): Promise<void> {
    const device = this.#devices[port];
    if (!device) throw new FarbusError(`port ${port} has no disk`);
    this.computer.ahci!.detach(port);
    this.#devices[port] = undefined;
    await closeDevice(device);
  }

  /** A snapshot of the running computer, as the content of a file. */
  async save(): Promise<Uint8Array> {
    const parts = await encodeSnapshot(await this.computer.save(this.#key), browserCodec);
    return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  }

  /** Switches the computer off and starts it anew with the same drives. */
  async reset(): Promise<Machine> {
    // Its guest has written its drives since it continued from a saved snapshot: it boots.
    const options = { ...this.#options, saved: undefined };
    await this.stop();
    return Machine.start(options, this.#events);
  }

  /** Switches the computer off, as if its plug were pulled, and closes its drives. */
  async stop(): Promise<void> {
    await this.computer.stop();
    for (const device of this.#devices.splice(0)) if (device) await closeDevice(device);
  }

  #watch(): void {
    const { computer } = this;
    let burst: number[] = [];
    computer.onSerial((byte) => {
      // All bytes of one turn of the processor in one message.
      if (burst.push(byte) > 1) return;
      queueMicrotask(() => {
        this.#events.serial(Uint8Array.from(burst));
        burst = [];
      });
    });
    void computer.ended.then((why) => this.#events.ended(why));
  }

  async #enter(files: GuestFiles, snapshot: Snapshot | undefined): Promise<void> {
    const { computer } = this;
    if (snapshot) return computer.restore(snapshot, this.#key);
    if (this.#options.system === 'drive') return computer.bootFirmware();
    const [bzImage, vmlinux, initramfs] = await Promise.all(
      (['bzImage', 'vmlinux', 'initramfs'] as const).map((file) => files.bytes(file)),
    );
    computer.boot({
      bzImage: bzImage!,
      vmlinux: vmlinux!,
      initramfs: initramfs!,
      commandLine: files.system.commandLine,
    });
    await computer.console.waitFor(/farbus: ready/, bootMs);
  }

  async #attachAll(): Promise<void> {
    for (const [port, device] of this.#devices.entries()) {
      if (device) await this.computer.ahci!.attach(port, device);
    }
  }
}

/** Flushes and closes a device. */
async function closeDevice(device: BlockDevice): Promise<void> {
  try {
    await device.flush();
  } finally {
    await device.close();
  }
}

interface Opening {
  readonly steps: Steps;
  readonly events: MachineEvents;
}

function openDrive(drive: TabDrive, port: number, { steps, events }: Opening): Promise<BlockDevice> {
  const onState = (state: RemoteState, detail: string): void => events.drive(port, state, detail);
  const onCache = (trouble: string): void => events.cache(port, trouble);
  return openTabDrive(drive, { log: events.log, steps, onState, onCache });
}

/** Opens all drives. If one cannot be opened, it closes the others and rejects. */
async function openAll(
  drives: readonly TabDrive[],
  ports: number,
  opening: Opening,
): Promise<(BlockDevice | undefined)[]> {
  if (drives.length > ports) throw new FarbusError(`a computer in a tab has ${ports} ports for disks, not more`);
  const results = await Promise.allSettled(drives.map((drive, port) => openDrive(drive, port, opening)));
  const devices: (BlockDevice | undefined)[] = [];
  let failure: unknown;
  for (const result of results) {
    if (result.status === 'fulfilled') devices.push(result.value);
    else failure ??= result.reason;
  }
  if (failure === undefined) return [...devices, ...new Array<undefined>(ports - devices.length).fill(undefined)];
  for (const device of devices) await device?.close();
  throw failure;
}

type CreateEngine = (parts: {
  memory: number;
  trap: Parameters<Parameters<typeof ClientComputer.create>[0]['createEngine']>[0];
  onEnd: Parameters<Parameters<typeof ClientComputer.create>[0]['createEngine']>[1];
}) => Promise<Engine>;

/** Loads the engine, and the firmware if the system needs it. */
async function engineOf(files: GuestFiles, system: TabSystem): Promise<CreateEngine> {
  const [emulator, firmware] = await Promise.all([loadV86(files.url('engine')), firmwareOf(files, system)]);
  const wasmPath = files.url('wasm');
  return ({ memory, trap, onEnd }) => createV86With(emulator, { memorySize: memory, wasmPath, trap, onEnd, firmware });
}

async function firmwareOf(files: GuestFiles, system: TabSystem): Promise<Firmware | undefined> {
  if (system !== 'drive') return undefined;
  const [bios, vgaBios] = await Promise.all([files.bytes('bios'), files.bytes('vgaBios')]);
  return { bios, vgaBios };
}

async function loadV86(url: string): Promise<V86Class> {
  // v86 would start a worker of its own from a Blob, which a strict Content-Security-Policy
  // refuses. It does not if there are no workers; the engine then replaces its way to yield.
  Object.defineProperty(globalThis, 'Worker', { value: undefined, configurable: true });
  try {
    return ((await import(/* @vite-ignore */ url)) as { V86: V86Class }).V86;
  } catch (error) {
    throw new FarbusError(`cannot load the engine from ${url}: ${messageOf(error)}`);
  }
}
