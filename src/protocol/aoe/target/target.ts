/**
 * AoE target: serves a BlockDevice as one shelf and slot of an Ethernet segment (AoEr11 and Farbus
 * sessions, ../session.ts).
 *
 * It announces itself, answers AoE commands 0 to 3 and session openings, and does not execute a
 * copy of a command that it recognises. Frames may be hostile: a frame that is not a complete
 * message for this target is dropped and counted.
 *
 * Not here: executing commands (executor.ts), the ATA disk (disk.ts), mask and reserve lists
 * (settings.ts).
 */
import { FarbusError } from '../../../base/errors.js';
import { getU16 } from '../../../base/big-endian.js';
import { silent, ThrottledLogger } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import type { BlockDevice } from '../../../block/device.js';
import { tailWarning } from '../../../block/tail.js';
import { broadcastMac, formatMac, isGroup, macKey, type Mac } from '../../../network/ethernet/mac.js';
import type { Port, Segment } from '../../../network/ethernet/segment.js';
import { getSealedOfRequest } from '../seal.js';
import { getOpening, nonceSize, putGrant, sessionFrameSize, unknownSession } from '../session.js';
import { sectorSize } from '../../../spec/ata.js';
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
} from '../spec.js';
import { flagsOf, getAta, isAoe, putHeader, versionOf } from '../wire.js';
import { Settings, type SettingsAnswer } from './settings.js';
import { Disk, isCut, reserved } from './disk.js';
import { Executor, maxExecuting } from './executor.js';
import { Responder } from './responder.js';
import { SessionTable, type TargetSession } from './sessions.js';
import type { AoeTargetCounters, AoeTargetOptions } from './target-options.js';

export type { AoeTargetCounters, AoeTargetOptions };

/** Firmware version in config responses. */
const firmware = 1;
/** Maximum number of session openings that wait for the end of the superseded session. */
const maxOpenings = 64;

/** Serves a device by AoE on a segment, under a shelf and a slot. */
export class AoeTarget {
  /** Counters since the start. */
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
  /** The shelf under which initiators find it. */
  readonly shelf: number;
  /** The slot under which initiators find it. */
  readonly slot: number;
  readonly #port: Port;
  readonly #responder: Responder;
  readonly #disk: Disk;
  readonly #settings: Settings;
  readonly #sessions = new SessionTable();
  readonly #openings = new Set<string>();
  readonly #memory: Uint8Array;
  readonly #log: ThrottledLogger;
  readonly #frameSize: number;
  readonly #executor: Executor;
  readonly #plain: boolean;
  #closed: Promise<void> | undefined;

  /**
   * Starts to serve `device` and announces it. The caller keeps ownership of the device.
   * @throws FarbusError if the address, the buffer count, the sector size or the MTU is unsuitable
   */
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
    this.#memory = options.memory?.slice(0, nonceSize) ?? crypto.getRandomValues(new Uint8Array(nonceSize));
    this.#log = new ThrottledLogger(options.log ?? silent);
    const warning = tailWarning(name, { ...device.info, tail: 0 }, sectorSize);
    if (warning !== undefined) this.#log.log('warn', 'tail', warning);
    this.#disk = new Disk(
      device,
      { model: options.model ?? 'Farbus', serial: options.serial ?? `farbus-${shelf}.${slot}`, firmware: '1' },
      { maxSectors, readOnly: options.readOnly ?? false, writeThrough: options.writeThrough ?? false },
    );
    const announcement = { bufferCount, firmware, sectors: maxSectors };
    this.#settings = new Settings(announcement, options.config ?? new Uint8Array(0), this.#frameSize);
    const onFrame = (frame: Uint8Array): void => this.#receive(frame);
    this.#port = segment.attach(options.mac ? { mac: options.mac, onFrame } : { onFrame });
    this.#responder = new Responder({ port: this.#port, shelf, slot, counters: this.counters });
    this.#executor = new Executor({
      disk: this.#disk,
      port: this.#port,
      responder: this.#responder,
      frameSize: this.#frameSize,
      counters: this.counters,
      steps: options.steps ?? new Steps(),
    });
    this.announce();
  }

  /** The MAC address of its port. */
  get mac(): Mac {
    return this.#port.mac;
  }

  /**
   * Broadcasts an unsolicited config response ([AoE] 3.2), so that initiators learn of the target.
   */
  announce(): void {
    const frame = new Uint8Array(Math.min(this.#frameSize, 1500));
    putHeader(
      frame,
      broadcastMac,
      this.#port.mac,
      { ...this.#address, command: AoeCommand.config, tag: 0 },
      Flag.response,
    );
    this.#responder.send(frame, this.#settings.announce(frame, ConfigCommand.read));
  }

  /** Ignores further frames, waits for commands in flight, and leaves the segment. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#executor.idle();
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
    // Only config may be addressed to every target: a broadcast read or write is an error.
    if (flags !== 0 || isGroup(request, 6) || (all && command !== AoeCommand.config)) {
      this.counters.malformed++;
      return;
    }
    const mac = macKey(request, 6);
    if (!this.#settings.hears(mac)) {
      this.counters.masked++;
      return;
    }
    if (versionOf(request) !== AOE_VERSION) return this.#responder.refuse(request, AoeError.badVersion);
    switch (command) {
      case AoeCommand.ata:
        return this.#ata(request, mac);
      case AoeCommand.config:
        return this.#control(request, (frame) => this.#settings.config(frame, request.length));
      case AoeCommand.mask:
        return this.#control(request, (frame) => this.#settings.mask(frame, request.length));
      case AoeCommand.reserve:
        return this.#control(request, (frame) => this.#settings.reserve(frame, request.length, mac));
      case AoeCommand.session:
        return this.#session(request, mac);
      default:
        return this.#responder.refuse(request, AoeError.unknownCommand);
    }
  }

  #control(request: Uint8Array, answer: (frame: Uint8Array) => SettingsAnswer): void {
    const frame = new Uint8Array(this.#frameSize);
    frame.set(request.subarray(0, this.#frameSize));
    const outcome = answer(frame);
    if (!outcome) return;
    if ('error' in outcome) return this.#responder.refuse(request, outcome.error);
    this.counters.commands++;
    this.#responder.respond(frame, outcome.length, 0);
  }

  #session(request: Uint8Array, mac: number): void {
    // Do not answer a truncated opening: the initiator would take an error for "no sessions here".
    if (request.length < sessionFrameSize) {
      this.counters.malformed++;
      return;
    }
    const opening = this.#plain ? AoeError.unknownCommand : getOpening(request);
    if (opening === 'damaged') {
      this.counters.malformed++;
      return;
    }
    if (typeof opening === 'number') return this.#responder.refuse(request, opening);
    if (!this.#settings.admits(mac)) return this.#responder.refuse(request, AoeError.reserved);
    // The superseded session may take long to end. Drop copies of the opening meanwhile, or they
    // pile up.
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
    const frame = request.slice(0, sessionFrameSize);
    void this.#sessions.open(mac, opening).then(({ generation, sealed }) => {
      this.#openings.delete(key);
      this.#log.log('debug', 'session', `${formatMac(frame.subarray(6, 12))}: session ${generation}`);
      const { nonce } = opening;
      putGrant(frame, { nonce, generation, memory: this.#memory, readOnly: this.#disk.readOnly, sealed });
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
    const session = this.#sessionOf(request, mac, ata.generation);
    if (ata.generation !== 0 && !session) return this.#responder.refuse(request, unknownSession);
    // A truncated write gets no answer. An error would end the command at the initiator while
    // complete copies may still arrive; without an answer the initiator sends it again.
    if (isCut(ata, request.length - AtaArgument.size)) {
      this.counters.malformed++;
      return;
    }
    const plan = this.#disk.plan(ata);
    if ('aoeError' in plan) return this.#executor.refuse(request, { mac, ata, session }, plan);
    if (plan.kind !== 'identify' && !this.#settings.admits(mac)) {
      return this.#executor.refuse(request, { mac, ata, session }, reserved);
    }
    this.#executor.execute(request, { mac, ata, plan, session });
  }

  /** The session of a command. A sealed command whose header is damaged has none. */
  #sessionOf(request: Uint8Array, mac: number, generation: number): TargetSession | undefined {
    const sealed = this.#sessions.find(mac, getSealedOfRequest(request));
    if (sealed?.sealed) return sealed;
    const plain = generation === 0 ? undefined : this.#sessions.find(mac, generation);
    return plain?.sealed ? undefined : plain;
  }
}

function within(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}
