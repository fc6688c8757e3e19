/**
 * The settings of a target that initiators can read and change: the config string, the mask list
 * (addresses that the target answers) and the reserve list (addresses that may use the disk).
 * [AoE] 3.2, 3.3, 3.4.
 *
 * They are kept in memory only and end with the target.
 */
import { macKey } from '../../../network/ethernet/mac.js';
import {
  AoeError,
  ConfigArgument,
  ConfigCommand,
  MaskArgument,
  MaskCommand,
  MaskDirective,
  maskDirectiveSize,
  MaskError,
  maxConfig,
  ReserveArgument,
  ReserveCommand,
} from '../spec.js';
import { getConfig, putConfig } from '../wire.js';

/** The fields of a config response besides the config string. */
export interface Announcement {
  readonly bufferCount: number;
  readonly firmware: number;
  readonly sectors: number;
}

/** Length of the response written into the frame, or an AoE error; undefined means no response. */
export type SettingsAnswer = { readonly length: number } | { readonly error: number } | undefined;

const macSize = 6;

export class Settings {
  readonly #announcement: Announcement;
  readonly #maxMasks: number;
  readonly #maxReserved: number;
  #config: Uint8Array;
  #masks = new Map<number, Uint8Array>();
  #reserved = new Map<number, Uint8Array>();

  /** Maximum length of a response frame, in bytes. */
  constructor(announcement: Announcement, config: Uint8Array, maxFrame: number) {
    this.#announcement = announcement;
    this.#config = config.slice(0, maxConfig);
    this.#maxMasks = Math.min(255, Math.floor((maxFrame - MaskArgument.size) / maskDirectiveSize));
    this.#maxReserved = Math.min(255, Math.floor((maxFrame - ReserveArgument.size) / macSize));
  }

  /** True if the mask list allows the initiator; the target ignores all others. */
  hears(mac: number): boolean {
    return this.#masks.size === 0 || this.#masks.has(mac);
  }

  /** True if the reserve list allows the initiator to use the disk. */
  admits(mac: number): boolean {
    return this.#reserved.size === 0 || this.#reserved.has(mac);
  }

  /**
   * [AoE] 3.2: config query. `frame` holds the request, `length` bytes, and has room for the
   * response.
   */
  config(frame: Uint8Array, length: number): SettingsAnswer {
    if (length < ConfigArgument.size) return undefined;
    const command = frame[ConfigArgument.versionCommand]! & 0xf;
    if (command !== ConfigCommand.read) {
      const asked = getConfig(frame.subarray(0, length))?.text;
      if (!asked) return undefined;
      if (asked.length > maxConfig) return { error: AoeError.badArgument };
      const own = this.#config;
      const prefix = asked.length <= own.length && asked.every((byte, index) => byte === own[index]);
      const same = prefix && asked.length === own.length;
      switch (command) {
        case ConfigCommand.test:
          if (!same) return undefined;
          break;
        case ConfigCommand.prefix:
          if (!prefix) return undefined;
          break;
        case ConfigCommand.set:
          if (own.length > 0 && !same) return { error: AoeError.configPresent };
          this.#config = asked.slice();
          break;
        case ConfigCommand.force:
          this.#config = asked.slice();
          break;
        default:
          return { error: AoeError.badArgument };
      }
    }
    return { length: this.announce(frame, command) };
  }

  /** Writes the config argument of a response into `frame` and returns its length. */
  announce(frame: Uint8Array, command: number): number {
    // The string is truncated if the frames of the segment are too short for it.
    const text = this.#config.subarray(0, Math.max(0, frame.length - ConfigArgument.size));
    putConfig(frame, { ...this.#announcement, text }, command);
    return ConfigArgument.size + text.length;
  }

  /** [AoE] 3.3: reads or edits the mask list. */
  mask(frame: Uint8Array, length: number): SettingsAnswer {
    if (length < MaskArgument.size) return undefined;
    const command = frame[MaskArgument.command];
    if (command !== MaskCommand.read && command !== MaskCommand.edit) return { error: AoeError.badArgument };
    frame[MaskArgument.error] = 0;
    if (command === MaskCommand.edit) {
      const count = frame[MaskArgument.count]!;
      if (length < MaskArgument.size + count * maskDirectiveSize) return undefined;
      for (let index = 0; index < count; index++) {
        const error = this.#direct(frame, MaskArgument.size + index * maskDirectiveSize);
        if (error === 0) continue;
        // The directives before this one stay in force; the count is their number.
        frame[MaskArgument.error] = error;
        frame[MaskArgument.count] = index;
        return { length: MaskArgument.size };
      }
    }
    let at: number = MaskArgument.size;
    for (const mac of this.#masks.values()) {
      frame[at] = frame[at + 1] = 0;
      frame.set(mac, at + 2);
      at += maskDirectiveSize;
    }
    frame[MaskArgument.count] = this.#masks.size;
    return { length: at };
  }

  /** [AoE] 3.4: reads or sets the reserve list. `mac` is the key of the initiator. */
  reserve(frame: Uint8Array, length: number, mac: number): SettingsAnswer {
    if (length < ReserveArgument.size) return undefined;
    const command = frame[ReserveArgument.command];
    if (command === ReserveCommand.set && !this.admits(mac)) return { error: AoeError.reserved };
    if (command === ReserveCommand.set || command === ReserveCommand.force) {
      const count = frame[ReserveArgument.count]!;
      const end = ReserveArgument.size + count * macSize;
      if (length < end) return undefined;
      if (count > this.#maxReserved) return { error: AoeError.badArgument };
      this.#reserved = new Map();
      for (let at: number = ReserveArgument.size; at < end; at += macSize) {
        this.#reserved.set(macKey(frame, at), frame.slice(at, at + macSize));
      }
    } else if (command !== ReserveCommand.read) {
      return { error: AoeError.badArgument };
    }
    let at: number = ReserveArgument.size;
    for (const one of this.#reserved.values()) {
      frame.set(one, at);
      at += macSize;
    }
    frame[ReserveArgument.count] = this.#reserved.size;
    return { length: at };
  }

  /** Executes one mask directive. Returns a MaskError, or 0. */
  #direct(frame: Uint8Array, at: number): number {
    const key = macKey(frame, at + 2);
    switch (frame[at + 1]) {
      case MaskDirective.none:
        return 0;
      case MaskDirective.add:
        if (!this.#masks.has(key) && this.#masks.size >= this.#maxMasks) return MaskError.full;
        this.#masks.set(key, frame.slice(at + 2, at + 2 + macSize));
        return 0;
      case MaskDirective.remove:
        this.#masks.delete(key);
        return 0;
      default:
        return MaskError.badDirective;
    }
  }
}
