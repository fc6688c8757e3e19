/**
 * The cable between two UDP segments (network/ethernet/udp.node.ts). It disturbs frames as a fault
 * model says.
 */
import { createSocket, type Socket } from 'node:dgram';
import { FaultModel, type FrameFaults } from '../../src/network/ethernet/faults.js';

export class UdpCable {
  readonly #ends: readonly [Socket, Socket];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  /** Number of frames that were damaged. */
  damaged = 0;

  private constructor(ends: readonly [Socket, Socket]) {
    this.#ends = ends;
  }

  /** @param ports the loopback ports on which the two segments listen */
  static async lay(ports: readonly [number, number], faults: FrameFaults): Promise<UdpCable> {
    const ends = [createSocket('udp4'), createSocket('udp4')] as const;
    for (const end of ends) await new Promise<void>((resolve) => end.bind(0, '127.0.0.1', resolve));
    const cable = new UdpCable(ends);
    const model = new FaultModel(faults);
    for (const from of [0, 1] as const) {
      const to = 1 - from;
      ends[from].on('message', (frame) => {
        for (const delay of model.next()) {
          const copy = model.damage(frame);
          if (copy !== frame) cable.damaged++;
          cable.#later(delay, () => ends[to]!.send(copy, ports[to]!, '127.0.0.1'));
        }
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
