/**
 * AoE initiator: a target's disk as a BlockDevice. It splits requests into messages of as many
 * sectors as fit into a frame, with many in flight at once (link.ts).
 *
 * Left out: trim. AoE messages could carry it, but hardly any target implements it.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError } from '../../../base/errors.js';
import { silent, type Logger } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import { sleep } from '../../../base/event-loop.js';
import { BlockBase } from '../../../block/base.js';
import { Fence } from '../../../block/fence.js';
import type { Life } from '../../../block/life.js';
import { ContentWitness } from '../../../block/witness.js';
import type { BlockInfo, RequestOptions, WriteOptions } from '../../../block/device.js';
import type { Mac } from '../../../network/ethernet/mac.js';
import type { Segment } from '../../../network/ethernet/segment.js';
import { AtaCommand, sectorSize } from '../../../spec/ata.js';
import type { RemoteState } from '../../remote/reconnection.js';
import type { CommandKind, CommandParts } from './command.js';
import { Link } from './link.js';
import type { LinkCounters } from './link-options.js';

export interface AoeOptions {
  readonly shelf: number;
  readonly slot: number;
  /** MAC address of the initiator. Default: the segment's, or a random one. */
  readonly mac?: Mac;
  /** Refuse writes even if the target allows them. Default false. */
  readonly readOnly?: boolean;
  /** Time that requests wait for a target that does not answer, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
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
  /** After reconnecting, accept a disk that cannot be verified to be the same. Default false. */
  readonly assumeSame?: boolean | undefined;
  /**
   * Stores the keys by which the next process can fence this one, and has those of earlier
   * processes (block/life.ts). Default: no fence.
   */
  readonly life?: Life | undefined;
  readonly log?: Logger;
  /** Ends the first search for the target. */
  readonly signal?: AbortSignal;
  /** Receives the tags of the messages that carry a guest's commands. */
  readonly steps?: Steps;
  /** Called at each change of state, with one line of detail. It must not throw. */
  readonly onState?: (state: RemoteState, detail: string) => void;
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
  const { life, log = silent } = options;
  const fence = Fence.of(life, {
    address: link.name,
    seconds: reconnectSeconds,
    log,
    fence: (key, signal) => link.fence(key, signal),
    settle: (signal) => sleep(frameLifetimeMs, signal),
  });
  return new AoeInitiator(link, {
    witness,
    life,
    fence,
    readOnly: options.readOnly ?? false,
    segment: options.closeSegment ? segment : undefined,
  });
}

interface AoeParts {
  readonly witness: ContentWitness | undefined;
  readonly life: Life | undefined;
  readonly fence: Fence | undefined;
  readonly readOnly: boolean;
  /** The segment to close with the device. */
  readonly segment: Segment | undefined;
}

/** Use {@link connectAoe} to create one. */
export class AoeInitiator extends BlockBase {
  readonly info: BlockInfo;
  readonly #link: Link;
  readonly #witness: ContentWitness | undefined;
  /** Sectors of one message if a request needs several. */
  readonly #step: number;
  readonly #lba48: boolean;

  readonly #segment: Segment | undefined;
  readonly #life: Life | undefined;
  readonly #fence: Fence | undefined;

  constructor(link: Link, { witness, life, fence, readOnly, segment }: AoeParts) {
    super();
    this.#link = link;
    this.#witness = witness;
    this.#life = life;
    this.#fence = fence;
    this.#segment = segment;
    const { disk, sectors } = link;
    this.#lba48 = disk.lba48;
    this.#step = sectors >= alignment ? sectors - (sectors % alignment) : sectors;
    this.info = {
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

  get counters(): Readonly<LinkCounters> {
    return this.#link.counters;
  }

  /** True if the target has Farbus sessions (docs/aoe.md, "Ghost writes"). */
  get hasSession(): boolean {
    return this.#link.hasSession;
  }

  override close(): Promise<void> {
    this.#fence?.hurry();
    this.#link.hurry();
    return super.close();
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const ata = this.#lba48 ? AtaCommand.readSectorsExt : AtaCommand.readSectors;
    const done = this.#link.run(this.#cut('read', ata, offset, into, false), options);
    this.#witness?.onRead(offset, into, done);
    return done;
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const wait = this.#fence?.wait(options.signal);
    return wait ? wait.then(() => this.#write(offset, from, options)) : this.#write(offset, from, options);
  }

  #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { fua = false } = options;
    const plain = this.#lba48 ? AtaCommand.writeSectorsExt : AtaCommand.writeSectors;
    const ata = fua ? AtaCommand.writeDmaFuaExt : plain;
    const done = this.#link.run(this.#cut('write', ata, offset, from, fua), options);
    this.#witness?.onWrite(offset, from.length, from, done);
    return done;
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    // FLUSH CACHE covers as much as FLUSH CACHE EXT, and every target that can flush has it.
    const parts = [{ kind: 'flush', ata: AtaCommand.flushCache, lba: 0, count: 0, at: 0, fua: false } as const];
    const done = this.#link.run(parts, options);
    this.#witness?.onFlush(done);
    return done;
  }

  protected async doClose(): Promise<void> {
    await this.#fence?.close();
    const { quiet } = this.#link;
    this.#link.close();
    await this.#segment?.close();
    await this.#life?.close(quiet);
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
