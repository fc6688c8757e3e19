/**
 * Opens and closes the media of a running computer's removable drives, and the disks of its AHCI
 * ports, when the user or the guest exchanges them.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import { waysOf } from '../control/ways.js';
import { withoutSecrets } from '../../base/web-address.js';
import type { Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import type { Computer } from '../../computer/computer.js';
import { guestTail, planDrive, type ClientDrive } from '../../computer/drives.js';
import type { DriveState, MediaChanger } from './control.js';
import { openClientDrive, type SourceOptions } from '../sources.js';
import { parseSource } from '../source-text.js';

export class Media implements MediaChanger {
  readonly #drives: readonly ClientDrive[];
  readonly #options: SourceOptions;
  readonly #log: Logger;
  /** Media in the computer's drives. */
  /** The open devices, with the texts of their sources. */
  readonly #open = new Map<BlockDevice, string>();
  #computer: Computer | undefined;
  #closed = false;

  /** Sources of the drives as given; undefined for an empty drive. */
  readonly #sources: (string | undefined)[];

  /** @param sources Sources of the drives as given, for messages and for {@link uses} */
  constructor(drives: readonly ClientDrive[], options: SourceOptions, sources: readonly string[] = []) {
    // A drive without a source is empty at first: ",cdrom".
    this.#sources = sources.map((source) => (source.startsWith(',') ? undefined : source));
    this.#drives = drives;
    this.#options = options;
    this.#log = options.log;
  }

  /** The present source of each drive, for `farbus ps`. */
  get uses(): string[] {
    return this.#sources.map((source, index) => source ?? `drive ${index}: empty`);
  }

  /** The drives, and the change that each permits now. */
  get drives(): DriveState[] {
    return this.#drives.map((drive, index): DriveState => {
      const { bus, kind } = planDrive(drive, index);
      const source = index < this.#sources.length ? this.#sources[index] : undefined;
      const state = { drive: index, kind, ...(source !== undefined && { source: withoutSecrets(source) }) };
      if (bus !== 'ahci' || !this.#computer?.ahci) return state;
      const there = this.#computer.ahci.mediumOf(index) !== undefined;
      if (kind === 'disk') return { ...state, can: there ? 'detach' : 'attach' };
      return { ...state, can: there ? 'eject' : 'insert' };
    });
  }

  /** How the sources are reached, for `farbus ps`. */
  get ways(): ReturnType<typeof waysOf> {
    return waysOf([...this.#open].map(([{ info }, source]) => [source, info]));
  }

  /**
   * Adds a medium that is in a drive from the start, so that it is closed with the others.
   * @param source its source, as in {@link uses}
   */
  add(medium: BlockDevice, source: string): void {
    this.#open.set(medium, source);
  }

  /** Sets the computer that the drives belong to. */
  setComputer(computer: Computer): void {
    this.#computer = computer;
  }

  /** The guest has ejected a medium: flushes and closes it. */
  readonly ejected = (index: number, medium: BlockDevice): void => {
    this.#log.log('info', `drive ${index}: the guest has ejected ${this.#take(index)}`);
    this.#close(medium).catch((error: unknown) => this.#log.log('warn', `drive ${index}: ${messageOf(error)}`));
  };

  async eject(drive: number | undefined, force: boolean): Promise<string> {
    const index = this.#removable(drive);
    const ahci = this.#computer!.ahci!;
    const medium = ahci.mediumOf(index);
    const result = ahci.eject(index, force);
    if (result === 'empty') return `drive ${index} is empty`;
    if (result === 'locked') return `asked the guest to eject drive ${index}, which it has locked; --force takes it`;
    this.#log.log('info', `drive ${index}: ejected ${this.#take(index)}`);
    if (medium) await this.#close(medium);
    return `ejected drive ${index}`;
  }

  async insert(drive: number | undefined, source: string, signal: AbortSignal): Promise<string> {
    const index = this.#removable(drive);
    const ahci = this.#computer!.ahci!;
    if (ahci.mediumOf(index)) throw new FarbusError(`drive ${index} has a medium: eject it first`);
    const { kind } = this.#drives[index]!;
    await this.#put(index, `${source},${kind!}`, signal, async (device) => ahci.insert(index, device));
    this.#log.log('info', `drive ${index}: inserted ${source}`);
    return `inserted into drive ${index}`;
  }

  async attach(drive: number | undefined, source: string, signal: AbortSignal): Promise<string> {
    const index = this.#port(drive);
    const ahci = this.#computer!.ahci!;
    if (ahci.mediumOf(index)) throw new FarbusError(`drive ${index} has a disk: detach it first`);
    await this.#put(index, source, signal, (device) => ahci.attach(index, device));
    this.#log.log('info', `drive ${index}: attached ${source}`);
    return `attached to drive ${index}`;
  }

  async detach(drive: number | undefined): Promise<string> {
    const index = this.#port(drive);
    const disk = this.#computer!.ahci!.detach(index);
    if (!disk) return `drive ${index} has no disk`;
    this.#log.log('info', `drive ${index}: detached ${this.#take(index)}`);
    await this.#close(disk);
    return `detached drive ${index}`;
  }

  /** Closes all media. */
  async close(): Promise<void> {
    this.#closed = true;
    const closed = await Promise.allSettled([...this.#open.keys()].map((medium) => this.#close(medium)));
    for (const one of closed) if (one.status === 'rejected') throw one.reason;
  }

  /** Opens a source and puts it into a drive, unless `signal` is aborted first. */
  async #put(
    index: number,
    text: string,
    signal: AbortSignal,
    into: (device: BlockDevice) => Promise<void>,
  ): Promise<void> {
    const parsed = parseSource(text);
    const { device } = await openClientDrive(parsed, { ...this.#options, signal });
    if (!device) throw new FarbusError('this needs a source');
    // Before it is in the drive: if the computer ends meanwhile, it is closed with the others.
    this.#open.set(device, parsed.text);
    try {
      signal.throwIfAborted();
      if (this.#closed) throw new FarbusError('the computer has ended');
      await into(device);
    } catch (error) {
      await this.#close(device);
      throw error;
    }
    if (index < this.#sources.length) this.#sources[index] = parsed.text;
    const warning = guestTail(`drive ${index}`, device, this.#drives[index]!.kind ?? 'disk');
    if (warning !== undefined) this.#log.log('warn', warning);
  }

  async #close(medium: BlockDevice): Promise<void> {
    if (this.#open.delete(medium)) await medium.close();
  }

  /** Notes that a drive is empty. Returns the text of its source. */
  #take(index: number): string {
    const source = this.#sources[index] ?? 'the medium';
    if (index < this.#sources.length) this.#sources[index] = undefined;
    return source;
  }

  /** A drive that is a disk on the AHCI adapter. */
  #port(drive: number | undefined): number {
    const found = this.drives.find((one) => one.drive === drive);
    if (drive !== undefined && found?.can && found.kind === 'disk') return drive;
    const what = drive === undefined ? 'say which drive' : `drive ${drive} is no disk on the bus ahci`;
    throw new FarbusError(`${what}: only those are attached and detached while the guest runs`);
  }

  #removable(drive: number | undefined): number {
    const all = this.#drives.flatMap(({ kind }, index) => (kind === 'cdrom' || kind === 'removable' ? [index] : []));
    if (drive === undefined) {
      if (all.length === 1) return all[0]!;
      const which = all.length === 0 ? 'the computer has no removable drive' : 'several drives are removable';
      throw new FarbusError(
        `${which}: ${all.length === 0 ? 'give it one by --drive ,cdrom' : `give --drive ${all.join(' or ')}`}`,
      );
    }
    if (!all.includes(drive)) throw new FarbusError(`drive ${drive} is not removable`);
    return drive;
  }
}
