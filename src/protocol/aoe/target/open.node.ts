/** AoE targets on a segment that is opened for them and closed with them. */
import { openSegment } from '../../../network/ethernet/open.node.js';
import { sleep } from '../../../base/event-loop.js';
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { BlockDevice } from '../../../block/device.js';
import { AOE_TYPE } from '../spec.js';
import { parseAoe } from '../uri.js';
import { AoeTarget } from './target.js';

/** A device to serve. */
export interface AoeExport {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  /**
   * Identifies the memory that holds unflushed writes: a UUID, or '' if it is this process's own.
   */
  readonly state: string;
}

/** Time for devices to finish commands in flight at close, in ms. */
const closeMs = 10_000;
/**
 * Buffer counts that targets announce. The socket of an interface holds 64 messages; the buffers of
 * UDP sockets are smaller.
 */
const bufferCount = { interface: 64, udp: 16 };

export interface AoeListener {
  /** `aoe:SHELF.SLOT@SEGMENT` of each device, in order. */
  readonly names: readonly string[];
  close(): Promise<void>;
}

/**
 * Serves devices at `aoe:SHELF.SLOT@SEGMENT`: the first at this slot, each further one at the next
 * slot. Rejects with a FarbusError.
 */
export async function listenAoe(
  text: string,
  exports: readonly AoeExport[],
  log: Logger,
  steps?: Steps,
): Promise<AoeListener> {
  const { shelf, slot, segment: name } = parseAoe(text);
  const segment = await openSegment(name, { etherType: AOE_TYPE, log });
  const targets: AoeTarget[] = [];
  const close = async (): Promise<void> => {
    // A device that hangs must not keep the program from exiting.
    const late = new AbortController();
    const wait = sleep(closeMs, late.signal).catch(() => undefined);
    await Promise.race([Promise.all(targets.map((target) => target.close())), wait]);
    late.abort();
    await segment.close();
  };
  try {
    for (const { device, readOnly, state } of exports) {
      const memory = Uint8Array.from(state.replaceAll('-', '').match(/[0-9a-f]{2}/gi) ?? [], (hex) =>
        parseInt(hex, 16),
      );
      targets.push(
        new AoeTarget(segment, device, {
          shelf,
          slot: slot + targets.length,
          readOnly,
          bufferCount: /^(udp|vxlan):/.test(name) ? bufferCount.udp : bufferCount.interface,
          ...(memory.length >= 8 && { memory }),
          log,
          ...(steps && { steps }),
        }),
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { names: targets.map((target) => `aoe:${target.shelf}.${target.slot}@${name}`), close };
}
