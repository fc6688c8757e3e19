/**
 * The latest commands of initiators without a Farbus session.
 *
 * A copy with the same tag is not executed while the command is in flight, nor for {@link
 * memoryMs} after. The target cannot recognise more: other initiators choose tags freely and may
 * send the same command again with a new tag.
 */
import type { Copy } from './sessions.js';

/**
 * Limits (chosen, not measured): initiators remembered, commands remembered for each, and ms for
 * which a command is remembered after it is done.
 */
const maxInitiators = 64;
const maxCommands = 128;
const memoryMs = 2000;

interface RecentCommand {
  /** Command, feature and count; a copy has the same value. */
  readonly kind: number;
  readonly lba: number;
  over: number | undefined;
  result: number;
}

/** Recent commands that change something, by initiator and tag. */
export class RecentCommands {
  readonly #byInitiator = new Map<number, Map<number, RecentCommand>>();

  /**
   * The state of a command that changes something. A `new` command counts as in flight from now on.
   * `kind` is what `kindOf` in command.ts returns.
   */
  take(mac: number, tag: number, kind: number, lba: number): Copy {
    const commands = this.#of(mac);
    const known = commands.get(tag);
    if (known && known.kind === kind && known.lba === lba) {
      if (known.over === undefined) return 'executing';
      if (performance.now() - known.over < memoryMs) return 'done';
    }
    commands.delete(tag);
    commands.set(tag, { kind, lba, over: undefined, result: 0 });
    if (commands.size > maxCommands) commands.delete(commands.keys().next().value!);
    return 'new';
  }

  finish(mac: number, tag: number, result: number): void {
    const command = this.#byInitiator.get(mac)?.get(tag);
    if (!command) return;
    command.over = performance.now();
    command.result = result;
  }

  resultOf(mac: number, tag: number): number {
    return this.#byInitiator.get(mac)?.get(tag)?.result ?? 0;
  }

  #of(mac: number): Map<number, RecentCommand> {
    const known = this.#byInitiator.get(mac);
    const commands = known ?? new Map<number, RecentCommand>();
    if (known) this.#byInitiator.delete(mac);
    else if (this.#byInitiator.size >= maxInitiators) {
      this.#byInitiator.delete(this.#byInitiator.keys().next().value!);
    }
    this.#byInitiator.set(mac, commands);
    return commands;
  }
}
