/**
 * The metadata contexts that a client has selected in the handshake, and the export for which it
 * selected them ([NBD] "Metadata querying").
 *
 * Not here: which contexts there are (contexts.ts).
 */
import { chooseContexts, chosenIds, contextNames, noContexts, type ChosenContexts } from './contexts.js';
import type { TargetExport } from './export.js';

export class ContextChoice {
  #chosen = noContexts;
  #export: TargetExport | undefined;
  /** The medium of the export of which the client was told; '' if there was none. */
  #medium = '';

  clear(): void {
    this.#chosen = noContexts;
    this.#export = undefined;
  }

  /**
   * Selects contexts of an export by the queries of NBD_OPT_SET_META_CONTEXT.
   * @returns the session that the queries name
   */
  select(of: TargetExport, queries: readonly string[]): string | undefined {
    const { chosen, session } = chooseContexts(queries, of.device.media !== undefined);
    this.#export = of;
    this.#chosen = chosen;
    return session;
  }

  /** The id and the name of each selected context, to be sent to the client. */
  names(of: TargetExport, session: string | undefined): [id: number, name: string][] {
    this.#medium = of.device.media?.medium ?? '';
    const facts = { session, state: of.sessions.state, medium: this.#medium, info: of.device.info };
    return contextNames(this.#chosen, facts);
  }

  /** The contexts that were selected for an export. */
  of(one: TargetExport): ChosenContexts {
    return this.#export === one ? this.#chosen : noContexts;
  }

  /** True if the client has said that it will change nothing on an export. */
  reads(one: TargetExport): boolean {
    return this.of(one).reader !== undefined;
  }

  /** True if contexts were selected for an export. */
  has(one: TargetExport): boolean {
    return chosenIds(this.of(one)).length > 0;
  }

  /**
   * The medium that the requests of a connection to an export refer to. If the client selected the
   * media context, it is the medium of which it was told, not one that was inserted since.
   */
  mediumOf(one: TargetExport): string | undefined {
    return this.of(one).media === undefined ? one.device.media?.medium : this.#medium;
  }
}
