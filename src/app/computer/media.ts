/**
 * Opens and closes the media of a running computer's removable drives when the user or the guest
 * exchanges them.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import type { ClientComputer } from '../../computer/client.js';
import { guestTail, type ClientDrive } from '../../computer/drives.js';
import type { MediaChanger } from './control.js';
import { openClientDrive, type SourceOptions } from '../sources.js';
import { parseSource } from '../source-text.js';

export class Media implements MediaChanger {
  readonly #drives: readonly ClientDrive[];
  readonly #options: SourceOptions;
  readonly #log: Logger;
  /** Media in the computer's drives. */
  readonly #open = new Set<BlockDevice>();
  #computer: ClientComputer | undefined;

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

  /** Adds a medium that is in a drive from the start, so that it is closed with the others. */
  add(medium: BlockDevice): void {
    this.#open.add(medium);
  }

  /** Sets the computer that the drives belong to. */
  attach(computer: ClientComputer): void {
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
    const parsed = parseSource(`${source},${this.#drives[index]!.kind!}`);
    const { device } = await openClientDrive(parsed, { ...this.#options, signal });
    if (!device) throw new FarbusError('insert needs a source');
    try {
      signal.throwIfAborted();
      ahci.insert(index, device);
    } catch (error) {
      await device.close();
      throw error;
    }
    this.#open.add(device);
    if (index < this.#sources.length) this.#sources[index] = parsed.text;
    this.#log.log('info', `drive ${index}: inserted ${source}`);
    const warning = guestTail(`drive ${index}`, device, this.#drives[index]!.kind!);
    if (warning !== undefined) this.#log.log('warn', warning);
    return `inserted into drive ${index}`;
  }

  /** Closes all media. */
  async close(): Promise<void> {
    for (const medium of this.#open) await this.#close(medium);
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
