/** Using a device in every way at once, for subjects whose devices are hostile. */
import { buffersOf } from '../../../src/base/buffers.js';
import type { BlockDevice } from '../../../src/block/device.js';
import { BlockError } from '../../../src/block/errors.js';
import type { FuzzError } from './loop.js';

/** How long requests may take to settle, in ms: only a hang reaches it. */
const patienceMs = 60_000;
/** Bytes around the memory of reads that nothing may be written to. */
const guard = 64;
const guardFill = 0x5a;

/** Uses a device in every way at once. @returns how each request ended. */
export async function use(device: BlockDevice, fault: (what: string, cause?: unknown) => FuzzError): Promise<string> {
  const { size, blockSize } = device.info;
  if (!(Number.isSafeInteger(size) && size >= 0 && blockSize > 0)) throw fault('its size is none');
  const fits = (offset: number, length: number): boolean => offset + length <= size && blockSize <= 512;
  const memory = new Uint8Array(4096 + 2 * guard).fill(guardFill);
  const block = new Uint8Array(2048).fill(7);
  const work: Promise<unknown>[] = [];
  if (fits(0, 4096)) work.push(device.read(0, buffersOf(memory.subarray(guard, -guard))));
  if (fits(8192, 2048))
    work.push(device.write(8192, buffersOf(block)), device.read(10240, buffersOf(new Uint8Array(512))));
  work.push(device.flush());
  if (fits(0, 16384)) work.push(device.extents(0, 16384), device.writeZeroes(12288, 4096), device.trim(12288, 2048));
  const results = await settled(Promise.allSettled(work), fault('requests do not settle'));
  if (!('value' in results)) throw fault('requests');
  const beside = [...memory.subarray(0, guard), ...memory.subarray(-guard)];
  if (beside.some((byte) => byte !== guardFill)) throw fault('memory beside that of a read was written');
  return results.value
    .map((result) => {
      if (result.status === 'fulfilled') return 'ok';
      if (!(result.reason instanceof BlockError))
        throw fault(`a request fails with ${String(result.reason)}`, result.reason);
      return result.reason.kind;
    })
    .join(' ');
}

/** The outcome of a promise; rejects with `late` when nothing does. */
export async function settled<T>(promise: Promise<T>, late: FuzzError): Promise<{ value: T } | { error: unknown }> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(late), patienceMs)));
  try {
    return await Promise.race([
      promise.then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      ),
      limit,
    ]);
  } finally {
    clearTimeout(timer);
  }
}
