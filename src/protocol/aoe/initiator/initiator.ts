/**
 * AoE initiator: a target's disk as a BlockDevice. It splits requests into messages of as many
 * sectors as fit into a frame, with many in flight at once (link.ts).
 *
 * Left out: trim. AoE messages could carry it, but hardly any target implements it.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError } from '../../../base/errors.js';
import { silent } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import { sleep } from '../../../base/event-loop.js';
import type { FenceOptions } from '../../../block/fence.js';
import type { Life } from '../../../block/life.js';
import { ContentWitness } from '../../../block/witness.js';
import type { BlockInfo, RequestOptions, WriteOptions } from '../../../block/device.js';
import type { Mac } from '../../../network/ethernet/mac.js';
import type { Segment } from '../../../network/ethernet/segment.js';
import { AtaCommand, sectorSize } from '../../../spec/ata.js';
import { InitiatorDevice, type InitiatorOptions } from '../../remote/initiator-device.js';
import type { CommandKind, CommandParts } from './command.js';
import { Link } from './link.js';
import type { LinkCounters } from './link-options.js';

/** Options of {@link connectAoe}. */
export interface AoeOptions extends InitiatorOptions {
  /** The shelf of the target, 0 to 65534. */
  readonly shelf: number;
  /** The slot of the target, 0 to 254. */
  readonly slot: number;
  /** MAC address of the initiator. Default: the segment's, or a random one. */
  readonly mac?: Mac;
  /** Time to look for the target at the start, in seconds. Default 10. */
  readonly connectSeconds?: number;
  /**
   * Time that a command may go unanswered while the target answers others, in seconds. Default 300.
   */
  readonly commandSeconds?: number;
  /**
   * For targets without Farbus sessions: maximum time that a frame can be in the network, in ms
   * (docs/aoe.md, "Ghost writes"). Default 2000.
   */
  readonly frameLifetimeMs?: number;
  /** Close the segment with the device. Default false: the caller keeps it. */
  readonly closeSegment?: boolean;
  /** Receives the tags of the messages that carry a guest's commands. */
  readonly steps?: Steps;
}

/**
 * Requests of several messages are split at multiples of this many sectors, if a message holds at
 * least that many.
 */
const alignment = 8;
/** Maximum length of one request, in bytes. It is split into messages here. */
const maxTransfer = 8 << 20;

/** Finds a target on a segment by shelf and slot. Rejects with a FarbusError. */
export async function connectAoe(segment: Segment, options: AoeOptions): Promise<AoeInitiator> {
  const { reconnectSeconds = 60, connectSeconds = 10, commandSeconds = 300, frameLifetimeMs = 2000 } = options;
  if (!(reconnectSeconds >= 0) || !(connectSeconds > 0) || !(commandSeconds > 0) || !(frameLifetimeMs >= 0)) {
    throw new FarbusError('times of a connection are numbers above 0, and for reconnecting 0 or more', { exitCode: 2 });
  }
  const witness = options.assumeSame ? undefined : new ContentWitness();
  const link = await Link.open(segment, {
    shelf: options.shelf,
    slot: options.slot,
    mac: options.mac,
    reconnectSeconds,
    connectSeconds,
    signal: options.signal,
    commandSeconds,
    frameLifetimeMs,
    witness,
    life: options.life,
    log: options.log ?? silent,
    steps: options.steps ?? new Steps(),
    onState: options.onState ?? (() => undefined),
  });
  const { life, readOnly = false, log = silent } = options;
  const fence: FenceOptions = {
    address: link.name,
    seconds: reconnectSeconds,
    log,
    fence: (key, signal) => link.fence(key, signal),
    settle: (signal) => sleep(frameLifetimeMs, signal),
  };
  return new AoeInitiator(link, { life, fence, readOnly, segment: options.closeSegment ? segment : undefined });
}

interface AoeParts {
  readonly life: Life | undefined;
  readonly fence: FenceOptions;
  readonly readOnly: boolean;
  /** The segment to close with the device. */
  readonly segment: Segment | undefined;
}

/** Use {@link connectAoe} to create one. */
export class AoeInitiator extends InitiatorDevice {
  readonly #info: BlockInfo;
  readonly #link: Link;
  /** Sectors of one message if a request needs several. */
  readonly #step: number;
  readonly #lba48: boolean;
  readonly #segment: Segment | undefined;

  constructor(link: Link, { life, fence, readOnly, segment }: AoeParts) {
    super(link, life, fence);
    this.#link = link;
    this.#segment = segment;
    const { disk, sectors } = link;
    this.#lba48 = disk.lba48;
    this.#step = sectors >= alignment ? sectors - (sectors % alignment) : sectors;
    this.#info = {
      size: disk.sectors * sectorSize,
      blockSize: sectorSize,
      preferredSize: Math.max(4096, disk.physicalSize),
      maxTransfer,
      readOnly: readOnly || link.readOnly,
      removable: disk.removable,
      rotational: disk.rotational,
      identity: link.name,
      ...(disk.worldWideName !== '' && { marks: { hardware: `wwn:${disk.worldWideName}` } }),
      can: {
        flush: disk.flush,
        fua: disk.fua,
        trim: false,
        writeZeroes: false,
        extents: false,
        multiConnection: true,
      },
    };
  }

  get info(): BlockInfo {
    const { away } = this.#link;
    return away === undefined ? this.#info : { ...this.#info, away };
  }

  /** Counters since the link was opened. */
  get counters(): Readonly<LinkCounters> {
    return this.#link.counters;
  }

  /** True if the target has Farbus sessions (docs/aoe.md, "Ghost writes"). */
  get hasSession(): boolean {
    return this.#link.hasSession;
  }

  protected sendRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const ata = this.#lba48 ? AtaCommand.readSectorsExt : AtaCommand.readSectors;
    return this.#link.run(this.#cut('read', ata, offset, into, false), options);
  }

  protected sendWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { fua = false } = options;
    const plain = this.#lba48 ? AtaCommand.writeSectorsExt : AtaCommand.writeSectors;
    const ata = fua ? AtaCommand.writeDmaFuaExt : plain;
    return this.#link.run(this.#cut('write', ata, offset, from, fua), options);
  }

  protected sendFlush(options: RequestOptions): Promise<void> {
    // FLUSH CACHE covers as much as FLUSH CACHE EXT, and every target that can flush has it.
    const parts = [{ kind: 'flush', ata: AtaCommand.flushCache, lba: 0, count: 0, at: 0, fua: false } as const];
    return this.#link.run(parts, options);
  }

  protected override async doClose(): Promise<void> {
    await super.doClose();
    await this.#segment?.close();
  }

  #cut(kind: CommandKind, ata: number, offset: number, buffers: Buffers, fua: boolean): CommandParts[] {
    const first = offset / sectorSize;
    const end = first + buffers.length / sectorSize;
    const parts: CommandParts[] = [];
    for (let lba = first; lba < end;) {
      let next = Math.min(end, lba + this.#link.sectors);
      if (next < end && this.#step >= alignment) {
        next = lba + this.#step;
        next -= next % alignment;
      }
      parts.push({ kind, ata, lba, count: next - lba, buffers, at: (lba - first) * sectorSize, fua });
      lba = next;
    }
    return parts;
  }
}
