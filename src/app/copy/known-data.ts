/** Estimates the work of a copy without reading data. */
import type { BlockDevice } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';

/** Most answers that are asked for: a far disk with many small holes must not be waited for. */
const maxAnswers = 256;

/**
 * Bytes from `start` on that the device does not report as zero; undefined if it does not report
 * that, or only in many answers.
 * @throws the signal's reason if it aborts
 */
export async function knownData(device: BlockDevice, start: number, signal: AbortSignal): Promise<number | undefined> {
  const { size, can } = device.info;
  if (!can.extents) return undefined;
  let data = 0;
  let at = start;
  try {
    for (let answers = 0; at < size; answers++) {
      if (answers === maxAnswers) return undefined;
      for (const extent of await device.extents(at, size - at, { signal })) {
        at = extent.offset + extent.length;
        if (!extent.zero) data += extent.length;
      }
    }
    return data;
  } catch (error) {
    signal.throwIfAborted();
    // The copy itself takes all for data then.
    if (error instanceof BlockError) return undefined;
    throw error;
  }
}
