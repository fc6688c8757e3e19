/**
 * The latest commands of initiators without a session of ours: a copy with the same tag is not executed while the first
 * is, nor shortly after. That is all that can be known: other initiators choose tags as they like, and may send the same
 * command again under a new one.
 */
import type { Copy } from './sessions.js';

/** Initiators that are remembered, commands of each, and for how long after their end in ms. */
const maxInitiators = 64;
const maxCommands = 128;
const memoryMs = 2000;

interface Command {
  /** What must be the same in a copy. */
  readonly kind: number;
  readonly lba: number;
  over: number | undefined;
  result: number;
}

export class RecentCommands {
  readonly #byInitiator = new Map<number, Map<number, Command>>();

  /** What a command is that changes something; if it is new, it is being executed from now on. `kind`: command and count. */
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

  #of(mac: number): Map<number, Command> {
    const known = this.#byInitiator.get(mac);
    const commands = known ?? new Map<number, Command>();
    if (known) this.#byInitiator.delete(mac);
    else if (this.#byInitiator.size >= maxInitiators) {
      this.#byInitiator.delete(this.#byInitiator.keys().next().value!);
    }
    this.#byInitiator.set(mac, commands);
    return commands;
  }
}
