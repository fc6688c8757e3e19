/**
 * Large buffers that are needed once. {@link release} gives their memory back immediately: a
 * process that is idle collects no garbage, so dropping the last reference would not.
 */

/** The parts of ES2024's resizable ArrayBuffer that are used. */
interface Resizable {
  readonly resizable?: boolean;
  resize?(length: number): void;
}
type ResizableConstructor = new (length: number, options: { maxByteLength: number }) => ArrayBuffer;

/** Zeroed bytes that can be released. */
export function releasable(length: number): Uint8Array<ArrayBuffer> {
  const make = ArrayBuffer as unknown as ResizableConstructor;
  return new Uint8Array(new make(length, { maxByteLength: length }));
}

/** Gives the memory of releasable bytes back. Their length is then 0. Others stay as they are. */
export function release(bytes: Uint8Array): void {
  const buffer = bytes.buffer as Resizable;
  if (buffer.resizable) buffer.resize?.(0);
}
