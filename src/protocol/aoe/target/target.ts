/**
 * The AoE target: a BlockDevice as shelf and slot of an Ethernet segment. It announces itself, answers [AoE] commands 0
 * to 3 and our sessions (../session.ts), and executes no copy of a command that it knows for one. Frames are hostile
 * until shown otherwise: what is not a whole message for this target is dropped and counted.
 */
import { FarbusError } from '../../../base/errors.js';
import { scattered } from '../../../base/scattered.js';
import { getU16 } from '../../../base/big-endian.js';
import { silent, ThrottledLogger, type Logger } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import type { BlockDevice } from '../../../block/device.js';
import { broadcastMac, formatMac, isGroup, macKey, type Mac } from '../../../network/ethernet/mac.js';
import type { Port, Segment } from '../../../network/ethernet/segment.js';
import { getOpening, nonceSize, putGrant, sessionFrameSize, unknownSession } from '../session.js';
import {
  AOE_VERSION,
  AoeCommand,
  AoeError,
  anyShelf,
  anySlot,
  AtaArgument,
  ConfigCommand,
  Flag,
  Header,
  sectorsOf,
  sectorSize,
} from '../spec.js';
import { flagsOf, getAta, isAoe, minFrame, putHeader, tagOf, versionOf, type AtaRequest } from '../wire.js';
import { Access, type Outcome } from './access.js';
import { changesSomething, continues, dataOf, kindOf, pack, unpack, type Command } from './command.js';
import { Disk, good, type Plan, type Result } from './disk.js';
import { RecentCommands } from './recent.js';
import { Responder } from './responder.js';
import { traceBegin, traceEnd } from './trace.js';
import { SessionTable, type TargetSession } from './sessions.js';

export interface AoeTargetOptions {
  /** 0 to 65534. */
  readonly shelf: number;
  /** 0 to 254. */
  readonly slot: number;
  /** The port's address. Default: the segment's. */
  readonly mac?: Mac;
  /** Nobody may write, whatever the device can. Default false. */
  readonly readOnly?: boolean;
  /** Every write is durable when it is answered: for initiators that never flush. Default false. */
  readonly writeThrough?: boolean;
  /** Messages that initiators may have under way, 1 to 256. Default 16. */
  readonly bufferCount?: number;
  /** [AoE] 3.2: the config string at first. Default empty. */
  readonly config?: Uint8Array;
  /** What IDENTIFY says. Defaults: "Farbus", "farbus-SHELF.SLOT". */
  readonly model?: string;
  readonly serial?: string;
  /**
   * Names the life of this computer's memory of writes that are not flushed, 8 bytes: the same for as long as it is not
   * lost. Default: random, the life of this target.
   */
  readonly life?: Uint8Array;
  /** Sessions of ours are offered. Default true; false makes it a target as others are. */
  readonly sessions?: boolean;
  readonly log?: Logger;
  /** Is told the steps of [SYS] fig. 10 of each command, under the tag of its message. */
  readonly steps?: Steps;
}

/** What has happened since the target began. */
export interface AoeTargetCounters {
  /** Messages that were answered, or are going to be. */
  commands: number;
  /** Answers with an AoE or ATA error. */
  errors: number;
  bytesRead: number;
  bytesWritten: number;
  /** Copies of commands that were not executed again. */
  copies: number;
  /** Dropped: too old to be known. */
  stale: number;
  /** Dropped: no message of this protocol and version, or none that makes sense. */
  malformed: number;
  /** Dropped: from an address that the mask list does not have. */
  masked: number;
  /** Dropped: more were being executed than can be. */
  overload: number;
}

/** Firmware version that the config answer tells. */
const firmware = 1;
/** Commands that are executed at a time, of all initiators. */
const maxExecuting = 256;
/** Openings of sessions that may wait for what they supersede. */
const maxOpenings = 64;

export class AoeTarget {
  readonly counters: AoeTargetCounters = {
    commands: 0,
    errors: 0,
    bytesRead: 0,
    bytesWritten: 0,
    copies: 0,
    stale: 0,
    malformed: 0,
    masked: 0,
    overload: 0,
  };
  readonly shelf: number;
  readonly slot: number;
  readonly #port: Port;
  readonly #responder: Responder;
  readonly #disk: Disk;
  readonly #access: Access;
  readonly #sessions = new SessionTable();
  readonly #openings = new Set<string>();
  readonly #recent = new RecentCommands();
  readonly #life: Uint8Array;
  readonly #log: ThrottledLogger;
  readonly #steps: Steps;
  readonly #frameSize: number;
  readonly #free: Uint8Array[] = [];
  #batch: Command[] = [];
  #executing = 0;
  #closed: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  readonly #plain: boolean;

  /** Begins to serve `device`, which stays the caller's, and announces it. @throws FarbusError where it cannot be. */
  constructor(segment: Segment, device: BlockDevice, options: AoeTargetOptions) {
    const { shelf, slot, bufferCount = 16 } = options;
    const name = `AoE target ${shelf}.${slot}`;
    if (!within(shelf, 0, anyShelf - 1) || !within(slot, 0, anySlot - 1)) {
      throw new FarbusError(`${name}: a shelf is 0 to 65534 and a slot 0 to 254`, { exitCode: 2 });
    }
    if (!within(bufferCount, 1, maxExecuting)) throw new FarbusError(`${name}: a buffer count is 1 to ${maxExecuting}`);
    if (device.info.blockSize > sectorSize) {
      throw new FarbusError(
        `${name}: AoE has sectors of 512 bytes, the device's are ${device.info.blockSize}: use NBD`,
      );
    }
    const maxSectors = sectorsOf(segment.mtu);
    if (maxSectors < 1) throw new FarbusError(`${name}: frames of ${segment.name} carry no sector: raise its MTU`);
    this.shelf = shelf;
    this.slot = slot;
    this.#plain = options.sessions === false;
    this.#frameSize = Header.type + 2 + segment.mtu;
    this.#life = options.life?.slice(0, nonceSize) ?? crypto.getRandomValues(new Uint8Array(nonceSize));
    this.#log = new ThrottledLogger(options.log ?? silent);
    this.#steps = options.steps ?? new Steps();
    this.#disk = new Disk(
      device,
      { model: options.model ?? 'Farbus', serial: options.serial ?? `farbus-${shelf}.${slot}`, firmware: '1' },
      { maxSectors, readOnly: options.readOnly ?? false, writeThrough: options.writeThrough ?? false },
    );
    const announcement = { bufferCount, firmware, sectors: maxSectors };
    this.#access = new Access(announcement, options.config ?? new Uint8Array(0), this.#frameSize);
    const onFrame = (frame: Uint8Array): void => this.#receive(frame);
    this.#port = segment.attach(options.mac ? { mac: options.mac, onFrame } : { onFrame });
    this.#responder = new Responder({ port: this.#port, shelf, slot, counters: this.counters });
    this.announce();
  }

  get mac(): Mac {
    return this.#port.mac;
  }

  /** Tells the segment that the target is there: [AoE] 3.2, a config answer that nobody asked for. */
  announce(): void {
    const frame = new Uint8Array(Math.min(this.#frameSize, 1500));
    putHeader(
      frame,
      broadcastMac,
      this.#port.mac,
      { ...this.#address, command: AoeCommand.config, tag: 0 },
      Flag.response,
    );
    this.#responder.send(frame, this.#access.announce(frame, ConfigCommand.read));
  }

  /** Hears nothing any more, finishes what it has begun, and leaves the segment. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      if (this.#executing > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
      this.#port.close();
    })();
    return this.#closed;
  }

  get #address(): { shelf: number; slot: number } {
    return { shelf: this.shelf, slot: this.slot };
  }

  #receive(request: Uint8Array): void {
    if (!isAoe(request) || this.#closed) return;
    const flags = flagsOf(request);
    if (flags & Flag.response) return;
    const shelf = getU16(request, Header.shelf);
    const slot = request[Header.slot]!;
    const command = request[Header.command]!;
    const all = shelf === anyShelf || slot === anySlot;
    if ((shelf !== this.shelf && shelf !== anyShelf) || (slot !== this.slot && slot !== anySlot)) return;
    // Nobody means every disk of a segment with a read or write.
    if (flags !== 0 || isGroup(request, 6) || (all && command !== AoeCommand.config)) {
      this.counters.malformed++;
      return;
    }
    const mac = macKey(request, 6);
    if (!this.#access.hears(mac)) {
      this.counters.masked++;
      return;
    }
    if (versionOf(request) !== AOE_VERSION) return this.#responder.refuse(request, AoeError.badVersion);
    switch (command) {
      case AoeCommand.ata:
        return this.#ata(request, mac);
      case AoeCommand.config:
        return this.#control(request, (frame) => this.#access.config(frame, request.length));
      case AoeCommand.mask:
        return this.#control(request, (frame) => this.#access.mask(frame, request.length));
      case AoeCommand.reserve:
        return this.#control(request, (frame) => this.#access.reserve(frame, request.length, mac));
      case AoeCommand.session:
        return this.#session(request, mac);
      default:
        return this.#responder.refuse(request, AoeError.unknownCommand);
    }
  }

  #control(request: Uint8Array, answer: (frame: Uint8Array) => Outcome): void {
    const frame = new Uint8Array(this.#frameSize);
    frame.set(request.subarray(0, this.#frameSize));
    const outcome = answer(frame);
    if (!outcome) return;
    if ('error' in outcome) return this.#responder.refuse(request, outcome.error);
    this.counters.commands++;
    this.#responder.respond(frame, outcome.length, 0);
  }

  #session(request: Uint8Array, mac: number): void {
    const opening = this.#plain ? AoeError.unknownCommand : getOpening(request);
    if (typeof opening === 'number') return this.#responder.refuse(request, opening);
    if (!this.#access.admits(mac)) return this.#responder.refuse(request, AoeError.reserved);
    // What it supersedes may take long to end: copies of the opening meanwhile are not to pile up.
    const key = `${mac}/${opening.nonce.join()}`;
    if (this.#openings.has(key)) {
      this.counters.copies++;
      return;
    }
    if (this.#openings.size >= maxOpenings) {
      this.counters.overload++;
      return;
    }
    this.#openings.add(key);
    const frame = request.slice(0, Math.max(sessionFrameSize, minFrame));
    void this.#sessions.open(mac, opening).then(({ generation }) => {
      this.#openings.delete(key);
      this.#log.log('debug', 'session', `${formatMac(frame.subarray(6, 12))}: session ${generation}`);
      const { nonce } = opening;
      putGrant(frame, { nonce, generation, life: this.#life, readOnly: this.#disk.readOnly });
      this.counters.commands++;
      this.#responder.respond(frame, sessionFrameSize, 0);
    });
  }

  #ata(request: Uint8Array, mac: number): void {
    if (request.length < AtaArgument.size) {
      this.counters.malformed++;
      return;
    }
    const ata = getAta(request);
    const session = ata.generation === 0 ? undefined : this.#sessions.find(mac, ata.generation);
    if (ata.generation !== 0 && !session) return this.#responder.refuse(request, unknownSession);
    const plan = this.#disk.plan(ata, request.length - AtaArgument.size);
    if ('aoeError' in plan) return this.#responder.answer(request, plan);
    if (plan.kind !== 'identify' && !this.#access.admits(mac))
      return this.#responder.refuse(request, AoeError.reserved);
    if (this.#executing >= maxExecuting) {
      this.counters.overload++;
      return;
    }
    if (!this.#take(request, mac, ata, plan, session)) return;
    if (this.#steps.on) traceBegin(this.#steps, tagOf(request), plan);
    // Of a read the header is enough.
    const frame = this.#begin(request.subarray(0, AtaArgument.size + (plan.kind === 'write' ? plan.length : 0)));
    if (this.#batch.length === 0) queueMicrotask(() => this.#runBatch());
    this.#batch.push({ frame, mac, ata, plan, session });
  }

  /** Executes what has arrived together: runs of neighbouring sectors by one request to the device. */
  #runBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    for (let from = 0; from < batch.length;) {
      let to = from + 1;
      while (to < batch.length && continues(batch[to - 1]!, batch[to]!)) to++;
      if (to - from > 1) void this.#executeRun(batch.slice(from, to));
      else void this.#execute(batch[from]!);
      from = to;
    }
  }

  async #executeRun(run: readonly Command[]): Promise<void> {
    try {
      await this.#disk.transfer(run[0]!.plan, scattered(run.map(dataOf)));
    } catch {
      // Each for itself, to learn which of them fail.
      for (const command of run) void this.#execute(command);
      return;
    }
    for (const command of run) this.#executed(command, good);
  }

  /** Whether a command is to be executed, and not a copy of one. */
  #take(request: Uint8Array, mac: number, ata: AtaRequest, plan: Plan, session: TargetSession | undefined): boolean {
    const tag = tagOf(request);
    const changes = changesSomething(plan);
    if (!session && !changes) return true;
    const copy = session ? session.take(tag) : this.#recent.take(mac, tag, kindOf(ata), ata.lba);
    switch (copy) {
      case 'new':
        return true;
      case 'stale':
        this.counters.stale++;
        return false;
      case 'ahead':
        this.#responder.refuse(request, unknownSession);
        return false;
      case 'executing':
        this.counters.copies++;
        return false;
      case 'done':
        this.counters.copies++;
        this.#responder.answer(request, unpack(session ? session.resultOf(tag) : this.#recent.resultOf(mac, tag)));
        return false;
    }
  }

  async #execute(command: Command): Promise<void> {
    this.#executed(command, await this.#disk.execute(command.plan, command.ata, dataOf(command)));
  }

  #executed({ frame, mac, plan, session }: Command, result: Result): void {
    const tag = tagOf(frame);
    const changes = changesSomething(plan);
    session?.finish(tag, changes ? pack(result) : undefined);
    if (!session && changes) this.#recent.finish(mac, tag, pack(result));
    const sends = plan.kind === 'read' || plan.kind === 'identify';
    if (result === good) {
      if (plan.kind === 'read') this.counters.bytesRead += plan.length;
      else if (plan.kind === 'write') this.counters.bytesWritten += plan.length;
    }
    if (this.#steps.on) traceEnd(this.#steps, tag, plan, result === good);
    this.#responder.respondAta(frame, result, sends && result === good ? AtaArgument.size + plan.length : 0);
    this.#end(frame);
  }

  /** A frame of our own that begins as the request does, until {@link #end}. */
  #begin(request: Uint8Array): Uint8Array {
    this.#executing++;
    const frame = this.#free.pop() ?? new Uint8Array(this.#frameSize);
    frame.set(request);
    return frame;
  }

  #end(frame: Uint8Array): void {
    this.#free.push(frame);
    if (--this.#executing === 0) this.#idle?.();
  }
}

function within(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}
