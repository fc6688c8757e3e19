/** Lists the targets on a segment with config queries to all of them ([AoE] 3.2). */
import { sleep } from '../../../base/event-loop.js';
import { getU16 } from '../../../base/big-endian.js';
import { broadcastMac, type Mac } from '../../../network/ethernet/mac.js';
import type { Segment } from '../../../network/ethernet/segment.js';
import { AOE_VERSION, AoeCommand, anyShelf, anySlot, Flag, Header } from '../spec.js';
import { configQuery, flagsOf, getConfig, isAoe, versionOf, type TargetConfig } from '../wire.js';

/** A target that answered, with its config response. */
export interface FoundTarget extends TargetConfig {
  /** The shelf of the target. */
  readonly shelf: number;
  /** The slot of the target. */
  readonly slot: number;
  /** MAC address of the target. */
  readonly mac: Mac;
}

/** Maximum number of targets listed. */
const maxFound = 4096;
/** Number of queries, because a frame can be lost. */
const queries = 3;

/**
 * Queries for `ms` (default 1000) and returns the targets that answered, sorted by shelf and slot.
 */
export async function discoverAoe(
  segment: Segment,
  options: { readonly ms?: number; readonly mac?: Mac; readonly signal?: AbortSignal } = {},
): Promise<FoundTarget[]> {
  const { ms = 1000, mac, signal } = options;
  const found = new Map<number, FoundTarget>();
  const onFrame = (frame: Uint8Array): void => {
    if (!isAoe(frame) || versionOf(frame) !== AOE_VERSION || frame[Header.command] !== AoeCommand.config) return;
    if (flagsOf(frame) !== Flag.response) return;
    const config = getConfig(frame);
    const shelf = getU16(frame, Header.shelf);
    const slot = frame[Header.slot]!;
    if (!config || found.size >= maxFound) return;
    found.set(shelf * 256 + slot, { ...config, text: config.text.slice(), shelf, slot, mac: frame.slice(6, 12) });
  };
  const port = segment.attach(mac ? { mac, onFrame } : { onFrame });
  try {
    for (let query = 0; query < queries; query++) {
      port.send(configQuery(broadcastMac, port.mac, anyShelf, anySlot, query));
      await sleep(ms / queries, signal);
    }
  } finally {
    port.close();
  }
  return [...found].sort(([a], [b]) => a - b).map(([, target]) => target);
}
