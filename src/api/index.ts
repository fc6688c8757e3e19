/**
 * `farbus`: block devices and filters, which run in Node, in browsers and in workers alike. Loads
 * neither Node's modules nor the engines; the only imports are files of this package.
 *
 * @example A disk in memory, of which a part is read through filters
 * ```ts
 * import { MemoryDevice, ReadOnlyFilter, SliceFilter } from 'farbus';
 *
 * const disk = new MemoryDevice(64 << 20);
 * await disk.write(1 << 20, new TextEncoder().encode('hello'.padEnd(512)));
 * const part = new ReadOnlyFilter(new SliceFilter(disk, 1 << 20, 1 << 20));
 * const sector = new Uint8Array(512);
 * await part.read(0, sector);
 * ```
 * @module farbus
 */
export { buffersOf, contiguous } from '../base/buffers.js';
export type { Buffers, Bytes, PutPlace } from '../base/buffers.js';
export { FarbusError, isFailure } from '../base/errors.js';
export type { FailureKind, FarbusErrorOptions } from '../base/errors.js';
export { silent } from '../base/log.js';
export type { Logger, LogLevel } from '../base/log.js';
export { Steps } from '../base/steps.js';
export type { Step, StepCommand, StepId, StepSink, TraceId } from '../base/steps.js';
export { BlockBase } from '../block/base.js';
export { compareDevices } from '../block/compare.js';
export type { CompareOptions } from '../block/compare.js';
export { copyDevice, CopyFailure } from '../block/copy.js';
export type { CopyOptions, CopyResult } from '../block/copy.js';
export type {
  BlockDevice,
  BlockInfo,
  Capabilities,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from '../block/device.js';
export type { DirectAccess, FileRange, FileRanges } from '../block/direct.js';
export { blockInfo } from '../block/info.js';
export type { DeviceFacts } from '../block/info.js';
export { BlockError } from '../block/errors.js';
export type { BlockErrorKind } from '../block/errors.js';
export { ByteAccessFilter } from '../block/filters/byte-access.js';
export type { CacheCounts, CacheFilter, ConfirmedCache } from '../block/filters/cache.js';
export type { CacheLayout } from '../block/filters/cache-format.js';
export { layoutOfCache, openCache } from '../block/filters/cache-store.js';
export type { CacheOptions } from '../block/filters/cache-store.js';
export { CacheVersion } from '../block/filters/cache-version.js';
export type { AskVersion } from '../block/filters/cache-version.js';
export { DelayFilter } from '../block/filters/delay.js';
export type { DelayOptions } from '../block/filters/delay.js';
export { FaultFilter } from '../block/filters/fault.js';
export type { FaultHandle, FaultRule } from '../block/filters/fault.js';
export { Filter } from '../block/filters/filter.js';
export type { BlockOperation, BlockRequest } from '../block/filters/filter.js';
export { LeaseArbiter } from '../block/filters/lease.js';
export type { MoveOptions } from '../block/filters/lease.js';
export { MergeFilter } from '../block/filters/merge.js';
export type { MergeOptions } from '../block/filters/merge.js';
export type { OverlayFilter } from '../block/filters/overlay.js';
export { createOverlay, isUnfinished, openOverlay, overlayStoreSize } from '../block/filters/overlay-store.js';
export type { OverlayOptions } from '../block/filters/overlay-store.js';
export { RateFilter, RateLimit } from '../block/filters/rate.js';
export { ReadAheadFilter } from '../block/filters/readahead.js';
export type { ReadAheadCounts, ReadAheadOptions } from '../block/filters/readahead.js';
export { ReadOnlyFilter } from '../block/filters/read-only.js';
export { RecordingFilter, replay, WriteLog } from '../block/filters/record.js';
export type { RecordedRequest } from '../block/filters/record.js';
export { SliceFilter } from '../block/filters/slice.js';
export { TraceFilter } from '../block/filters/trace.js';
export type { TraceEntry, TraceSink } from '../block/filters/trace.js';
export type { DiskIdentity, DiskMarks, MarkKind } from '../block/identity.js';
export { Losses, LossWatch } from '../block/losses.js';
export type { LockHolder, TakeOver, WriterLock } from '../block/writer-lock.js';
export { identifyDisk } from '../probe/disk-identity.js';
export { probeDisk } from '../probe/probe.js';
export type { Content, ContentKind } from '../probe/content.js';
export type { DiskLayout } from '../probe/probe.js';
export type { Partition, PartitionTable } from '../probe/table.js';
export { MemoryDevice, ReadyMemoryDevice } from '../storage/memory.js';
