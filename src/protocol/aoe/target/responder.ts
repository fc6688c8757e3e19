/** Builds and sends the target's responses from request headers, and counts them. [AoE] 2, 3.1. */
import { putU16 } from '../../../base/big-endian.js';
import type { Port } from '../../../network/ethernet/segment.js';
import { AOE_VERSION, AtaArgument, Flag, Header } from '../spec.js';
import { putSealed } from '../seal.js';
import { minFrame } from '../wire.js';
import type { Result } from './disk.js';
import type { TargetSession } from './sessions.js';

/** The port, address and counters of the responding target. */
export interface Responding {
  readonly port: Port;
  readonly shelf: number;
  readonly slot: number;
  readonly counters: { commands: number; errors: number };
}

export class Responder {
  readonly #port: Port;
  readonly #shelf: number;
  readonly #slot: number;
  readonly #counters: Responding['counters'];

  constructor({ port, shelf, slot, counters }: Responding) {
    this.#port = port;
    this.#shelf = shelf;
    this.#slot = slot;
    this.#counters = counters;
  }

  /** Answers an ATA request without data. */
  answer(request: Uint8Array, result: Result, session: TargetSession | undefined): void {
    const frame = new Uint8Array(minFrame);
    frame.set(request.subarray(0, AtaArgument.size));
    this.respondAta(frame, result, 0, session);
  }

  /** `session`: that of the command, if it has one. */
  respondAta(frame: Uint8Array, result: Result, length: number, session: TargetSession | undefined): void {
    this.#counters.commands++;
    if (result.aoeError === 0) {
      if (result.error !== 0) this.#counters.errors++;
      frame[AtaArgument.feature] = result.error;
      frame[AtaArgument.count] = result.count;
      frame[AtaArgument.command] = result.status;
    }
    this.respond(frame, Math.max(length, AtaArgument.size), result.aoeError, session);
  }

  refuse(request: Uint8Array, error: number): void {
    const frame = new Uint8Array(minFrame);
    frame.set(request.subarray(0, AtaArgument.size));
    this.#counters.commands++;
    this.respond(frame, AtaArgument.size, error);
  }

  /**
   * Turns the request header in `frame` into a response header and sends `length` bytes of the
   * frame. In a sealed session it seals the header.
   */
  respond(frame: Uint8Array, length: number, error: number, session?: TargetSession): void {
    frame.copyWithin(0, 6, 12);
    frame.set(this.#port.mac, 6);
    if (error !== 0) this.#counters.errors++;
    frame[Header.versionFlags] = (AOE_VERSION << 4) | Flag.response | (error === 0 ? 0 : Flag.error);
    frame[Header.error] = error;
    putU16(frame, Header.shelf, this.#shelf);
    frame[Header.slot] = this.#slot;
    if (session?.sealed) putSealed(frame, session.generation);
    this.send(frame, length);
  }

  /**
   * Sends `length` bytes of a frame, padded with zeroes to the minimum size of an Ethernet frame.
   */
  send(frame: Uint8Array, length: number): void {
    if (length < minFrame) frame.fill(0, length, minFrame);
    this.#port.send(frame.subarray(0, Math.max(length, minFrame)));
  }
}
