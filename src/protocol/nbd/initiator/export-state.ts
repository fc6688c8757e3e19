/**
 * The state of an export across the connections of a session: its facts, which may grow, and
 * the medium of a drive, which may change. Checks each new connection against them.
 */
import { messageOf } from '../../../base/errors.js';
import { BlockError } from '../../../block/errors.js';
import { breachOf, factsOf, type ExportFacts } from './facts.js';
import type { Negotiated } from './negotiation.js';

export class ExportState {
  readonly #exportName: string;
  readonly #readOnly: boolean;
  #facts: ExportFacts;

  /**
   * @param facts of the first connection
   * @param options the export's name, and true for a device that is read-only in any case
   */
  constructor(facts: ExportFacts, options: { readonly exportName: string; readonly readOnly: boolean }) {
    this.#facts = facts;
    this.#exportName = options.exportName;
    this.#readOnly = options.readOnly;
  }

  get facts(): ExportFacts {
    return this.#facts;
  }

  /** @param route The gateway in use; undefined if there is only one */
  reachedBy(route: string | undefined): void {
    const { info } = this.#facts;
    if (info.route === route && info.away === undefined) return;
    this.#facts = { ...this.#facts, info: { ...info, route, away: undefined } };
  }

  /** @param away when the server was lost, in ms since 1970 */
  lost(away: number | undefined): void {
    this.#facts = { ...this.#facts, info: { ...this.#facts.info, away } };
  }

  /** True if a request is meant for a medium that is no longer in the drive. */
  isStale({ medium }: { readonly medium: string | undefined }): boolean {
    return medium !== undefined && medium !== this.#facts.medium;
  }

  /** The medium was removed or exchanged; the next connection tells which one is there. */
  emptied(): void {
    const { info } = this.#facts;
    this.#facts = { ...this.#facts, medium: '', info: { ...info, size: 0 } };
  }

  /**
   * The way in which a new connection's export breaks the promises of the first; undefined if it
   * keeps them.
   */
  breach(negotiated: Negotiated): string | undefined {
    const sameMedium = negotiated.medium === this.#facts.medium;
    try {
      const readOnly = this.#readOnly || (this.#facts.info.readOnly && sameMedium);
      return breachOf(this.#facts, factsOf(negotiated, this.#exportName, readOnly));
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Adopts the size of a new connection's export if it has grown and has the same medium.
   * @returns the size before, in bytes; undefined if it has not grown
   */
  grow(negotiated: Negotiated): number | undefined {
    const { info, medium } = this.#facts;
    // Round down to this device's blocks: the server's blocks may have become smaller.
    const size = negotiated.size - (negotiated.size % info.blockSize);
    if (negotiated.medium !== medium || size <= info.size) return undefined;
    this.#facts = { ...this.#facts, info: { ...info, size } };
    return info.size;
  }

  /**
   * Adopts the facts of a new connection's medium, if the export has media.
   * @returns true if the medium has changed
   */
  changeMedium(negotiated: Negotiated): boolean {
    if (negotiated.medium === undefined) return false;
    const changed = negotiated.medium !== this.#facts.medium;
    this.#facts = factsOf(negotiated, this.#exportName, this.#readOnly);
    return changed;
  }
}

/** The error of a request for a medium that is no longer in the drive. */
export function otherMedium(): BlockError {
  return new BlockError('no-medium', 'another medium is in the drive, or none');
}
