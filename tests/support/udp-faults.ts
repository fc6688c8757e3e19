/**
 * The cable between two UDP segments (network/ethernet/udp.node.ts). It disturbs frames as a fault
 * model says, and adds forged AoE frames.
 */
import { createSocket, type Socket } from 'node:dgram';
import { seededRandom } from '../../src/base/random.js';
import { FaultModel, type FrameFaults } from '../../src/network/ethernet/faults.js';
import { AtaArgument, Flag, Header } from '../../src/protocol/aoe/spec.js';

export interface CableFaults extends FrameFaults {
  /** Chance that a forged frame follows a frame. Default 0. */
  readonly forgery?: number;
}

export class UdpCable {
  readonly #ends: readonly [Socket, Socket];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  /** Number of frames that were damaged. */
  damaged = 0;
  /** Number of forged frames. */
  forged = 0;

  private constructor(ends: readonly [Socket, Socket]) {
    this.#ends = ends;
  }

  /** @param ports the loopback ports on which the two segments listen */
  static async lay(ports: readonly [number, number], faults: CableFaults): Promise<UdpCable> {
    const ends = [createSocket('udp4'), createSocket('udp4')] as const;
    for (const end of ends) await new Promise<void>((resolve) => end.bind(0, '127.0.0.1', resolve));
    const cable = new UdpCable(ends);
    const model = new FaultModel(faults);
    const random = seededRandom(faults.seed ?? 1);
    for (const from of [0, 1] as const) {
      const to = 1 - from;
      ends[from].on('message', (frame) => {
        for (const delay of model.next()) {
          const copy = model.damage(frame);
          if (copy !== frame) cable.damaged++;
          cable.#later(delay, () => ends[to]!.send(copy, ports[to]!, '127.0.0.1'));
        }
        if (frame.length < AtaArgument.size || random() >= (faults.forgery ?? 0)) return;
        cable.forged++;
        const forged = forge(frame, random);
        cable.#later(random() * 50, () => ends[to]!.send(forged, ports[to]!, '127.0.0.1'));
      });
    }
    return cable;
  }

  /** The port to which the segment at `ports[end]` sends its frames. */
  port(end: 0 | 1): number {
    return this.#ends[end].address().port;
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const end of this.#ends) end.close();
  }

  #later(ms: number, send: () => void): void {
    if (ms <= 0) return send();
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      send();
    }, ms);
    this.#timers.add(timer);
  }
}

/**
 * A frame as a station forges it that has seen `frame`, but does not compute its seal: with another
 * sender, as an error, or with another value in two bytes of its header.
 */
function forge(frame: Uint8Array, random: () => number): Uint8Array {
  const forged = frame.slice();
  const kind = random();
  if (kind < 0.2) {
    forged[11]! ^= 1 + Math.floor(random() * 255);
  } else if (kind < 0.4) {
    forged[Header.versionFlags]! |= Flag.response | Flag.error;
    forged[Header.error] = 1 + Math.floor(random() * 6);
  } else {
    const at = Header.tag + Math.floor(random() * (AtaArgument.size - Header.tag - 1));
    forged[at]! ^= 1 + Math.floor(random() * 255);
    forged[at + 1]! ^= Math.floor(random() * 256);
  }
  return forged;
}
