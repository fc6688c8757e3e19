/**
 * An AoE initiator made of bytes, for tests of the target. It sends exactly what the test tells it,
 * right or wrong.
 */
import { Hub } from '../../src/network/ethernet/hub.js';
import type { Port } from '../../src/network/ethernet/segment.js';
import { AtaArgument, AtaFlag } from '../../src/protocol/aoe/spec.js';
import { putAta, putHeader, type AtaRequest } from '../../src/protocol/aoe/wire.js';

export const shelf = 1;
export const slot = 2;

export class AoePeer {
  readonly got: Uint8Array[] = [];
  readonly port: Port;
  /** Destination address of its frames. */
  to: Uint8Array = new Uint8Array(6).fill(0xff);

  constructor(hub: Hub, mac = Uint8Array.of(2, 0, 0, 0, 0, 1)) {
    this.port = hub.attach({ mac, onFrame: (frame) => this.got.push(frame.slice()) });
  }

  /** A frame with an AoE header, followed only by the argument `bytes`. */
  frame(
    command: number,
    tag: number,
    bytes: readonly number[] | Uint8Array,
    at: Partial<{ shelf: number; slot: number }> = {},
  ): Uint8Array {
    const frame = new Uint8Array(24 + bytes.length);
    putHeader(frame, this.to, this.port.mac, { shelf, slot, command, tag, ...at });
    frame.set(bytes, 24);
    return frame;
  }

  /** An ATA command. With `data` it is a write. */
  ata(tag: number, ata: Partial<AtaRequest>, data?: Uint8Array): Uint8Array {
    const frame = new Uint8Array(AtaArgument.size + (data?.length ?? 0));
    putHeader(frame, this.to, this.port.mac, { shelf, slot, command: 0, tag });
    const flags = AtaFlag.extended | (data ? AtaFlag.write : 0);
    putAta(frame, { flags, feature: 0, count: 0, command: 0, lba: 0, generation: 0, ...ata });
    if (data) frame.set(data, AtaArgument.size);
    return frame;
  }

  send(frame: Uint8Array): void {
    this.port.send(frame);
  }

  /** Sends a frame. Resolves with the answer, if any. */
  async ask(frame: Uint8Array): Promise<Uint8Array | undefined> {
    // An announcement may be in flight.
    await settle();
    this.got.length = 0;
    this.send(frame);
    await settle();
    return this.got[0];
  }
}

/** Waits until sent frames are delivered and answered, unless the device waits. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
}
