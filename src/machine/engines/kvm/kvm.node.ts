/**
 * The KVM engine behind the interface of machine/engine.ts: the processor runs the guest itself,
 * and Linux's KVM module gives control to us at each access to a device (an exit).
 *
 * The processor and the kernel do the instructions, paging, the interrupt controllers and the
 * timer. The board (board/) and the logical devices behind the trap are ours.
 *
 * Left out: a screen, a keyboard.
 */
import { FarbusError } from '../../../base/errors.js';
import type {
  BootPlace,
  DescriptorRegisters,
  Engine,
  EngineEnd,
  EngineExits,
  EngineSnapshots,
  Firmware,
  PciConnection,
  PciFunction,
  ProtectedModeEntry,
} from '../../engine.js';
import { SnapshotError } from '../../snapshot.js';
import type { TrapHandler } from '../../trap.js';
import { Extension, Request, Sregs, apiVersion } from './abi.js';
import { cpuidOf, processorName, supportedCpuid } from './cpuid.node.js';
import { acpiTables, placedTables, tablesAt } from './board/acpi.js';
import { Board } from './board/board.js';
import { placeFirmware } from './firmware.node.js';
import { KvmMemory } from './memory.node.js';
import type { Rom } from './rom.node.js';
import { SerialInput } from './serial-input.js';
import { checkState, restoreMachine, saveMachine, type SavedMachine } from './snapshot/machine.node.js';
import { stateVersion } from './snapshot/state.node.js';
import { closeSync } from 'node:fs';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { openKvm, setInterruptInput, untilUninterrupted } from './system.node.js';
import { Vcpu, enterProtected, type VcpuEnd } from './vcpu.node.js';
import { KvmWriteEvents } from './write-events.node.js';

export interface KvmOptions {
  /** Size of RAM in bytes; a multiple of 1 MiB. */
  readonly memorySize: number;
  /** Number of processors. Default: 1. */
  readonly processors?: number | undefined;
  readonly trap: TrapHandler;
  /** Content of the ROM. Default: none; the operating system is entered directly. */
  readonly firmware?: Firmware | undefined;
  /** `detail` is for people. */
  readonly onEnd?: (why: EngineEnd, detail?: string) => void;
}

/**
 * Inputs of the interrupt controllers for INTA#, which the board uses for nothing else: those that
 * SeaBIOS writes into the configuration spaces of a board with Intel's 440FX.
 */
const pirqInputs = [10, 10, 11, 11] as const;
/**
 * Four pages that KVM needs for itself on Intel's processors ([KVM] §4.35, §4.41). Firmware is
 * above them.
 */
const identityMapAt = 0xfeffc000;
const tssAt = 0xfeffd000;

/** Creates the machine, which is then paused. */
export async function createKvm(options: KvmOptions): Promise<Engine> {
  const engine = new KvmEngine(options);
  try {
    await engine.ready();
  } catch (error) {
    await engine.stop();
    throw error;
  }
  return engine;
}

class KvmEngine implements Engine {
  readonly memory: KvmMemory;
  readonly trap: TrapHandler;
  readonly acpiRoot = tablesAt;
  readonly enterFirmware: Engine['enterFirmware'];
  readonly snapshots: EngineSnapshots;
  readonly #options: KvmOptions;
  readonly #kvm: number;
  readonly #vm: number;
  readonly #vcpus: Vcpu[] = [];
  readonly #board: Board;
  readonly #serial: SerialInput;
  readonly #serialReceivers: ((byte: number) => void)[] = [];
  /** The asserted lines of each input. */
  readonly #asserted = new Map<number, Set<object>>();
  readonly #message = new Uint8Array(32);
  /** Memory that the kernel shows to the guest; it must live as long as the machine. */
  readonly #roms: Rom[] = [];
  readonly #writeEvents: KvmWriteEvents[] = [];
  #host: SavedMachine['host'] = { name: '', features: new Uint8Array(0) };
  /** The order of the boot devices that the firmware was given. */
  #order: readonly BootPlace[] | undefined;
  #ended = false;
  /** True when the descriptors are closed: the kernel may have given their numbers away. */
  #closed = false;
  #stopped: Promise<void> | undefined;

  constructor(options: KvmOptions) {
    this.#options = options;
    const { firmware } = options;
    if (firmware) this.enterFirmware = (order) => this.#enterFirmware(firmware, order);
    this.snapshots = {
      kind: `kvm ${stateVersion}, ${options.processors ?? 1} processors`,
      save: async () => this.#save(),
      restore: async (state) => this.#restore(state),
    };
    this.trap = options.trap;
    const system = machineCalls();
    this.memory = new KvmMemory(options.memorySize);
    this.memory.preferHugePages();
    this.#kvm = openKvm();
    if (system.control(this.#kvm, Request.getApiVersion, 0) !== apiVersion)
      throw new FarbusError('this KVM is too old');
    this.#vm = untilUninterrupted(() => system.control(this.#kvm, Request.createVm, 0));
    system.control(this.#vm, Request.setTssAddress, tssAt);
    const identity = new Uint8Array(8);
    new DataView(identity.buffer).setBigUint64(0, BigInt(identityMapAt), true);
    system.exchange(this.#vm, Request.setIdentityMapAddress, identity);
    system.control(this.#vm, Request.createIrqchip, 0);
    const timer = new Uint8Array(64);
    timer[0] = 1; // KVM_PIT_SPEAKER_DUMMY: the kernel answers port 0x61
    system.exchange(this.#vm, Request.createPit2, timer);
    this.memory.slots.forEach((slot, i) => {
      const region = new DataView(new ArrayBuffer(32));
      region.setUint32(0, i, true);
      region.setBigUint64(8, BigInt(slot.guestAddress), true);
      region.setBigUint64(16, BigInt(slot.length), true);
      region.setBigUint64(24, slot.processAddress, true);
      system.exchange(this.#vm, Request.setUserMemoryRegion, new Uint8Array(region.buffer));
    });
    this.#board = new Board(options.trap, {
      setInput: (input, asserted) => this.#setInput(input, asserted),
      sendMessage: (address, data) => this.#sendMessage(address, data),
      onSerial: (byte) => {
        for (const receive of this.#serialReceivers) receive(byte);
      },
      onRoom: () => this.#serial.feed(),
      onEnd: (why) => this.#end(why),
    });
    this.#board.setMemory(this.memory.ranges);
    this.#serial = new SerialInput((bytes) => this.#board.giveInput(bytes));
  }

  /** Creates the processors. Resolves when their threads are there. */
  async ready(): Promise<void> {
    const system = machineCalls();
    const runSize = system.control(this.#kvm, Request.getVcpuMmapSize, 0);
    const host = {
      board: this.#board,
      onEnd: (why: VcpuEnd, detail?: string) => this.#end(why, detail),
    };
    const cpuid = supportedCpuid(this.#kvm);
    const { processors = 1 } = this.#options;
    const deadlineTimer = system.control(this.#kvm, Request.checkExtension, Extension.tscDeadlineTimer) > 0;
    const features = cpuidOf(cpuid, { id: 0, processors, deadlineTimer });
    this.#host = { name: processorName(cpuid), features };
    for (let id = 0; id < processors; id++) {
      const fd = system.control(this.#vm, Request.createVcpu, id);
      try {
        system.exchange(fd, Request.setCpuid2, cpuidOf(cpuid, { id, processors, deadlineTimer }));
        this.#vcpus.push(new Vcpu(this.#vm, fd, runSize, host));
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    }
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.ready));
    process.on('exit', this.#leave);
  }

  get exits(): EngineExits {
    const all = { memory: 0, port: 0, quickPort: 0, other: 0 };
    for (const { exits } of this.#vcpus)
      for (const why of Object.keys(all) as (keyof EngineExits)[]) all[why] += exits[why];
    return all;
  }

  addPci(device: PciFunction): PciConnection {
    let wanted = false;
    const input = inputOf(device.slot);
    const key = {};
    const lines = this.#asserted.get(input) ?? new Set();
    this.#asserted.set(input, lines);
    const drive = (): void => {
      const before = lines.size > 0;
      if (wanted && !slot.lineForbidden && !slot.messages?.enabled) lines.add(key);
      else lines.delete(key);
      if (lines.size > 0 !== before) this.#setInput(input, !before);
    };
    const slot = this.#board.pci.add({ ...device, config: withLine(device.config, input) }, () => {
      drive();
      writeEvents.moved();
    });
    const writeEvents = new KvmWriteEvents(this.#vm, () => slot.barAt);
    this.#writeEvents.push(writeEvents);
    return {
      writeEvents,
      messages: slot.messages,
      set: (asserted) => {
        wanted = asserted;
        drive();
      },
    };
  }

  enter(entry: ProtectedModeEntry): void {
    const tables = placedTables(acpiTables({ processors: this.#vcpus.length, inputOf }));
    this.memory.area(tablesAt, tables.length).set(tables);
    const { instructionPointer: rip, ebx: rbx = 0, esi: rsi, esp: rsp } = entry;
    enterProtected(this.#vcpus[0]!, { rip, rbx, rsi, rsp });
  }

  /** A new processor is at its reset vector already, in the ROM below 4 GiB. */
  #enterFirmware(firmware: Firmware, order: readonly BootPlace[], continues = false): void {
    const place = { vm: this.#vm, memory: this.memory, board: this.#board, processors: this.#vcpus.length };
    this.#roms.push(...placeFirmware(firmware, { ...place, inputOf, order, continues }));
    this.#order = order;
  }

  #save(): Uint8Array {
    if (this.#ended) throw new SnapshotError('the guest has ended');
    return saveMachine(this.#machine, this.#order);
  }

  #restore(bytes: Uint8Array): void {
    const { firmware } = this.#options;
    const checked = checkState(this.#machine, bytes);
    const { order, board } = checked.state;
    if ((order === undefined) !== (firmware === undefined)) throw new SnapshotError('it is of another firmware');
    if (firmware && order) this.#enterFirmware(firmware, order, true);
    if (!this.#board.matches(board)) throw new FarbusError('it is of a computer with other devices');
    restoreMachine(this.#machine, checked);
  }

  get #machine(): SavedMachine {
    return {
      kvm: this.#kvm,
      vm: this.#vm,
      vcpus: this.#vcpus,
      board: this.#board,
      memory: this.memory,
      host: this.#host,
    };
  }

  descriptors(): DescriptorRegisters | undefined {
    if (this.#closed) return undefined;
    // The kernel would make us wait for a processor that runs.
    const stopped = this.#vcpus.find(({ running }) => !running);
    if (!stopped) return undefined;
    const sregs = stopped.get(Request.getSregs, Sregs.size);
    const number = (at: number) => Number(sregs.getBigUint64(at, true));
    return {
      idtBase: sregs.getBigUint64(Sregs.idtBase, true),
      idtLimit: sregs.getUint16(Sregs.idtLimit, true),
      cr0: number(Sregs.cr0),
      cr3: number(Sregs.cr3),
      cr4: number(Sregs.cr4),
      efer: number(Sregs.efer),
    };
  }

  start(): void {
    if (this.#ended) return;
    for (const vcpu of this.#vcpus) vcpu.resume();
  }

  async pause(): Promise<void> {
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.hold()));
  }

  onSerial(receive: (byte: number) => void): void {
    this.#serialReceivers.push(receive);
  }

  sendSerial(bytes: Uint8Array): Promise<void> {
    return this.#serial.send(bytes);
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#release());
  }

  async #release(): Promise<void> {
    this.#ended = true;
    process.off('exit', this.#leave);
    this.#serial.close();
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.end()));
    for (const events of this.#writeEvents) events.close();
    this.#closed = true;
    for (const { fd } of this.#vcpus) closeSync(fd);
    closeSync(this.#vm);
    closeSync(this.#kvm);
    this.memory.discard();
  }

  /** A process that ends joins its threads, and only a signal ends a thread's call of KVM_RUN. */
  readonly #leave = (): void => {
    for (const vcpu of this.#vcpus) vcpu.leave();
  };

  #end(why: EngineEnd, detail?: string): void {
    if (this.#ended) return;
    this.#ended = true;
    void this.pause().then(() => this.#options.onEnd?.(why, detail));
  }

  #setInput(input: number, asserted: boolean): void {
    // Commands that end after the machine's end still set their line.
    if (this.#closed) return;
    try {
      setInterruptInput(this.#vm, input, asserted);
    } catch {
      this.#end('failed'); // the kernel has given the machine up
    }
  }

  #sendMessage(address: number, data: number): void {
    if (this.#closed) return;
    const view = new DataView(this.#message.buffer);
    view.setUint32(0, address >>> 0, true);
    view.setUint32(4, Math.floor(address / 2 ** 32), true);
    view.setUint32(8, data, true);
    try {
      machineCalls().exchange(this.#vm, Request.signalMsi, this.#message);
    } catch {
      // No processor takes the message (EPERM): it is lost, as on a real bus.
    }
  }
}

/** The input of the interrupt controllers for INTA# of a slot. */
function inputOf(slot: number): number {
  return pirqInputs[(slot + 3) & 3]!;
}

function withLine(config: Uint8Array, input: number): Uint8Array {
  const copy = config.slice();
  if (copy[0x3d] !== 0) copy[0x3c] = input;
  return copy;
}
