/**
 * The AoE initiator: a target's disk as a BlockDevice. Requests are cut into messages of as many sectors as a frame
 * holds, many under way at once (link.ts). No trim: AoE's messages could carry it, but hardly a target does it.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError } from '../../../base/errors.js';
import { silent, type Logger } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import { BlockBase } from '../../../block/base.js';
import { ContentWitness } from '../../../block/witness.js';
import type { BlockInfo, RequestOptions, WriteOptions } from '../../../block/device.js';
import type { Mac } from '../../../network/ethernet/mac.js';
import type { Segment } from '../../../network/ethernet/segment.js';
import { AtaCommand, sectorSize } from '../spec.js';
import type { CommandKind, CommandParts } from './command.js';
import { Link } from './link.js';
import type { AoeState, LinkCounters } from './link-options.js';

export interface AoeOptions {
  readonly shelf: number;
  readonly slot: number;
  /** The initiator's address. Default: the segment's, or a random one. */
  readonly mac?: Mac;
  /** Take no writes, whatever the target allows. Default false. */
  readonly readOnly?: boolean;
  /** How long requests wait for a target that is gone, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
  /** How long the target is looked for at first, in seconds. Default 10. */
  readonly connectSeconds?: number;
  /** How long a command may be without an answer of a target that is there, in seconds. Default 300. */
  readonly commandSeconds?: number;
  /**
   * Of targets that are not Farbus: how long a frame can be on its way at most, in ms (docs/aoe.md, "Ghost writes").
   * Default 2000.
   */
  readonly frameLifetimeMs?: number;
  /** The segment is closed with the device. Default false: it stays the caller's. */
  readonly closeSegment?: boolean;
  /** Take a disk that cannot be recognised when the target is found again for the same one. Default false. */
  readonly assumeSame?: boolean | undefined;
  readonly log?: Logger;
  /** Gives up looking for the target at first. */
  readonly signal?: AbortSignal;
  /** Is told by which messages a guest's commands are sent. */
  readonly steps?: Steps;
  /** Told of every change of the state, with a line of detail. It must not throw. */
  readonly onState?: (state: AoeState, detail: string) => void;
}

/** Requests of more than one message are cut at multiples of this, where messages are long enough; in sectors. */
const alignment = 8;
const maxTransfer = 8 << 20;

/** Finds a target on a segment, by its shelf and slot. Rejects with a FarbusError. */
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
    // Timers count up to 2^31 ms.
    reconnectSeconds: Math.min(reconnectSeconds, 2_000_000),
    connectSeconds,
    signal: options.signal,
    commandSeconds,
    frameLifetimeMs,
    witness,
    log: options.log ?? silent,
    steps: options.steps ?? new Steps(),
    onState: options.onState ?? (() => undefined),
  });
  return new AoeInitiator(link, witness, options.readOnly ?? false, options.closeSegment ? segment : undefined);
}

/** Made by {@link connectAoe}. */
export class AoeInitiator extends BlockBase {
  readonly info: BlockInfo;
  readonly #link: Link;
  readonly #witness: ContentWitness | undefined;
  /** Sectors of one message, of requests that need several. */
  readonly #step: number;
  readonly #lba48: boolean;

  /** Closed with the device. */
  readonly #segment: Segment | undefined;

  constructor(link: Link, witness: ContentWitness | undefined, readOnly: boolean, segment: Segment | undefined) {
    super();
    this.#link = link;
    this.#witness = witness;
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

  /** The target knows every copy of a command: docs/aoe.md, "Ghost writes". */
  get hasSession(): boolean {
    return this.#link.hasSession;
  }

  override close(): Promise<void> {
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
    const { fua = false } = options;
    const plain = this.#lba48 ? AtaCommand.writeSectorsExt : AtaCommand.writeSectors;
    const ata = fua ? AtaCommand.writeDmaFuaExt : plain;
    const done = this.#link.run(this.#cut('write', ata, offset, from, fua), options);
    this.#witness?.onWrite(offset, from.length, from, done);
    return done;
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    // FLUSH CACHE, which every target knows that knows any, covers the same as FLUSH CACHE EXT.
    const parts = [{ kind: 'flush', ata: AtaCommand.flush, lba: 0, count: 0, at: 0, fua: false } as const];
    const done = this.#link.run(parts, options);
    this.#witness?.onFlush(done);
    return done;
  }

  protected async doClose(): Promise<void> {
    this.#link.close();
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
