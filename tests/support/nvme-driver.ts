/**
 * A minimal NVMe driver for tests. It knows the specification and does only what the test tells it.
 */
import { NvmeController, msix } from '../../src/device/nvme/controller.js';
import type { NvmeOptions } from '../../src/device/nvme/options.js';
import { AdminOpcode, Cns, Register } from '../../src/spec/nvme.js';
import type { BlockDevice } from '../../src/block/device.js';
import { putOnBoard, type DriverRegisters } from './driver-board.js';
import { driverMemory } from './guest-memory.js';

export interface TestCommand {
  opcode: number;
  nsid?: number;
  prp1?: number;
  prp2?: number;
  dword10?: number;
  dword11?: number;
  dword12?: number;
  dword13?: number;
  dword0?: number;
  cid?: number;
}

export interface TestCompletion {
  readonly cid: number;
  /** Status code type and status code, without "do not retry". */
  readonly status: number;
  readonly doNotRetry: boolean;
  readonly result: number;
  readonly sqid: number;
}

interface Queue {
  readonly id: number;
  readonly sq: number;
  readonly cq: number;
  readonly size: number;
  tail: number;
  head: number;
  phase: number;
}

/** Facets of the board besides the interrupt line. */
export interface TestBoard {
  /** MSI-X messages, switched on. */
  readonly messages?: boolean;
  /** Events for writes instead of exits. */
  readonly writeEvents?: boolean;
}

const testIdentity = {
  serial: 'TEST0001',
  model: 'Test Disk',
  firmware: '1.0',
  uuid: new Uint8Array(16).fill(7),
};

/** Time limit for CSTS.RDY, in ms. Only a controller that hangs takes so long. */
const readyMs = 30_000;

export class NvmeDriver {
  readonly memory = driverMemory(16 << 20);
  readonly controller: NvmeController;
  readonly #registers: DriverRegisters;
  /** Level of the interrupt line, and the number of rising edges. */
  line = false;
  interrupts = 0;
  readonly queues = new Map<number, Queue>();
  readonly #waiting = new Map<number, (completion: TestCompletion) => void>();
  readonly strays: TestCompletion[] = [];
  #cid = 0;
  /** Offsets of the registers whose writes are events, and the receiver of the events. */
  watched: readonly number[] = [];
  #told: () => void = () => undefined;
  /** Numbers of register writes that came to the trap, and of events. */
  traps = 0;
  events = 0;
  /** Addresses of the buffers of shadow doorbells, once they are configured. */
  shadow: { readonly doorbells: number; readonly events: number } | undefined;
  /** If false, completions stay in the queue. */
  consuming = true;

  constructor(disk: BlockDevice, options: Partial<NvmeOptions> = {}, board: TestBoard = {}) {
    this.controller = new NvmeController({
      base: 0xfe000000,
      memory: this.memory,
      disk,
      identity: testIdentity,
      ...options,
    });
    this.#registers = putOnBoard(this.controller, { barIndex: 0, msix });
    const signal = () => {
      this.interrupts++;
      setImmediate(() => this.poll());
    };
    this.controller.connect({
      set: (asserted) => {
        if (asserted && !this.line) this.interrupts++;
        this.line = asserted;
        if (asserted) setImmediate(() => this.poll());
      },
      ...(board.messages && {
        messages: this.#registers.messages?.(signal) ?? { enabled: true, processorVector: () => undefined, signal },
      }),
      ...(board.writeEvents && {
        writeEvents: {
          watch: (offsets, told) => {
            this.watched = offsets;
            this.#told = told;
          },
        },
      }),
    });
  }

  /** Allocates page-aligned memory for the driver. */
  allocate(length: number): number {
    return this.memory.allocate(length);
  }

  read(offset: number): number {
    return this.#registers.read(offset, 4) >>> 0;
  }

  write(offset: number, value: number): void {
    if (this.watched.includes(offset)) {
      this.events++;
      setImmediate(() => this.#told());
      return;
    }
    this.traps++;
    this.#registers.write(offset, 4, value);
  }

  async waitReady(ready: boolean): Promise<void> {
    for (const until = performance.now() + readyMs; performance.now() < until;) {
      if (((this.read(Register.csts) & 1) === 1) === ready) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`CSTS.RDY did not become ${ready ? 1 : 0}`);
  }

  /** Sets up the admin queues (32 entries), sets CC.EN, and waits for CSTS.RDY. */
  async enable(): Promise<void> {
    const queue = this.#queue(0, 32);
    this.write(Register.aqa, 31 | (31 << 16));
    this.write(Register.asq, queue.sq % 2 ** 32);
    this.write(Register.asq + 4, Math.floor(queue.sq / 2 ** 32));
    this.write(Register.acq, queue.cq % 2 ** 32);
    this.write(Register.acq + 4, Math.floor(queue.cq / 2 ** 32));
    this.write(Register.cc, 1 | (6 << 16) | (4 << 20));
    await this.waitReady(true);
  }

  async disable(): Promise<void> {
    this.write(Register.cc, 0);
    await this.waitReady(false);
    this.queues.clear();
    this.#waiting.clear();
    this.shadow = undefined;
  }

  /** Configures shadow doorbells, which are used from now on as Linux's driver does. */
  async useShadow(): Promise<void> {
    const shadow = { doorbells: this.allocate(4096), events: this.allocate(4096) };
    await this.expect({ opcode: AdminOpcode.doorbellBufferConfig, prp1: shadow.doorbells, prp2: shadow.events });
    this.shadow = shadow;
  }

  async createQueue(id: number, size = 64): Promise<void> {
    const queue = this.#queue(id, size);
    const size0 = (size - 1) << 16;
    await this.expect({ opcode: AdminOpcode.createCq, prp1: queue.cq, dword10: id | size0, dword11: 3 });
    await this.expect({ opcode: AdminOpcode.createSq, prp1: queue.sq, dword10: id | size0, dword11: 1 | (id << 16) });
  }

  /** Does everything that a driver does before the first read. */
  async start(queues = 1): Promise<void> {
    await this.enable();
    for (let id = 1; id <= queues; id++) await this.createQueue(id);
  }

  /**
   * Puts a command into a submission queue, and rings the doorbell unless `ring` is false. Resolves
   * with the completion.
   */
  submit(command: TestCommand, qid = 0, ring = true): Promise<TestCompletion> {
    const queue = this.queues.get(qid)!;
    const cid = command.cid ?? (this.#cid = (this.#cid + 1) & 0xffff);
    const entry = this.memory.data(queue.sq + queue.tail * 64, 64);
    for (let i = 0; i < 64; i += 4) entry.setUint32(i, 0, true);
    entry.setUint32(0, (command.opcode | (cid << 16) | (command.dword0 ?? 0)) >>> 0, true);
    entry.setUint32(4, command.nsid ?? (qid > 0 ? 1 : 0), true);
    entry.setBigUint64(24, BigInt(command.prp1 ?? 0), true);
    entry.setBigUint64(32, BigInt(command.prp2 ?? 0), true);
    entry.setUint32(40, (command.dword10 ?? 0) >>> 0, true);
    entry.setUint32(44, (command.dword11 ?? 0) >>> 0, true);
    entry.setUint32(48, (command.dword12 ?? 0) >>> 0, true);
    entry.setUint32(52, (command.dword13 ?? 0) >>> 0, true);
    queue.tail = (queue.tail + 1) % queue.size;
    const done = new Promise<TestCompletion>((resolve) => this.#waiting.set((qid << 16) | cid, resolve));
    if (ring) this.ring(qid);
    return done;
  }

  ring(qid: number): void {
    this.#doorbell(2 * qid, this.queues.get(qid)!.tail);
  }

  /** Writes a doorbell: in memory too, and in the register only if the controller asks for it. */
  #doorbell(index: number, value: number): void {
    const { shadow } = this;
    if (shadow && index > 1) {
      const doorbell = this.memory.data(shadow.doorbells + 4 * index, 4);
      const old = doorbell.getUint32(0, true);
      doorbell.setUint32(0, value, true);
      const event = this.memory.data(shadow.events + 4 * index, 4).getUint32(0, true);
      // §7.13: the value has passed the event index.
      if (((value - event - 1) & 0xffff) >= ((value - old) & 0xffff)) return;
    }
    this.write(Register.doorbells + 4 * index, value);
  }

  /**
   * Submits a command and requires success.
   * @returns dword 0 of the completion
   */
  async expect(command: TestCommand, qid = 0): Promise<number> {
    const { status, result } = await this.submit(command, qid);
    if (status !== 0) throw new Error(`opcode 0x${command.opcode.toString(16)}: status 0x${status.toString(16)}`);
    return result;
  }

  async identify(cns: number, nsid = 0): Promise<DataView> {
    const page = this.allocate(4096);
    await this.expect({ opcode: AdminOpcode.identify, nsid, prp1: page, dword10: cns });
    return this.memory.data(page, 4096);
  }

  identifyController(): Promise<DataView> {
    return this.identify(Cns.controller);
  }

  /** Takes the entries from the completion queues, as an interrupt handler does. */
  poll(): void {
    if (!this.consuming) return;
    for (const queue of this.queues.values()) {
      let taken = false;
      for (;;) {
        const entry = this.memory.data(queue.cq + queue.head * 16, 16);
        const field = entry.getUint16(14, true);
        if ((field & 1) !== queue.phase) break;
        taken = true;
        const completion: TestCompletion = {
          cid: entry.getUint16(12, true),
          status: (field >> 1) & 0x7ff,
          doNotRetry: field >> 15 === 1,
          result: entry.getUint32(0, true),
          sqid: entry.getUint16(10, true),
        };
        queue.head = (queue.head + 1) % queue.size;
        if (queue.head === 0) queue.phase ^= 1;
        const key = (completion.sqid << 16) | completion.cid;
        const waiting = this.#waiting.get(key);
        this.#waiting.delete(key);
        if (waiting) waiting(completion);
        else this.strays.push(completion);
      }
      if (taken) this.#doorbell(2 * queue.id + 1, queue.head);
    }
  }

  #queue(id: number, size: number): Queue {
    const queue = { id, size, sq: this.allocate(size * 64), cq: this.allocate(size * 16), tail: 0, head: 0, phase: 1 };
    this.memory.at(queue.cq, size * 16).fill(0);
    this.queues.set(id, queue);
    return queue;
  }
}
