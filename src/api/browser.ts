/**
 * `farbus/browser`: for pages: exports of a Farbus server by WebSocket, a computer in the tab with
 * far disks, and disks of the page that are lent to other computers. Runs in browsers only. The
 * engine comes from the server, when a computer is made.
 *
 * @module farbus/browser
 */
export { connectExport, exportVersion } from '../browser/export.js';
export type { ExportAddress } from '../browser/export.js';
export type { TabDrive } from '../browser/drives.js';
export type { FlowReport } from '../browser/flow-report.js';
export type { MachineOptions as TabMachineOptions, TabSystem } from '../browser/machine-options.js';
export { TabComputer } from '../browser/tab-computer.js';
export type { TabCommandResult, TabComputerOptions, TabState } from '../browser/tab-computer.js';
export type { MouseMove } from '../machine/screen.js';
export { removeStore, storageSpace, storeNames } from '../storage/opfs/files.js';
export type { StorageSpace, StoreKind } from '../storage/opfs/files.js';
export { openOpfsCache } from '../storage/opfs/cache.js';
export type { OpfsCacheOptions } from '../storage/opfs/cache.js';
export type { AskVersion } from '../block/filters/cache-version.js';
export type { HandleWriter, WritableHandle } from '../storage/file-handle.js';
export { createOpfsDisk, openOpfsDisk, opfsDiskContent, opfsDisks } from '../storage/opfs/disk.js';
export type { OpfsDisk } from '../storage/opfs/disk.js';
export { openOpfsOverlay } from '../storage/opfs/overlay.js';
export { OpfsStore } from '../storage/opfs/store.js';
export { webSocketDialer, webSocketStream } from '../network/websocket.js';
export type { WebSocketDialerOptions, WebSocketLike, WebSocketStreamOptions } from '../network/websocket.js';
export { lendOpfsDisk } from '../web/lend/disk.js';
export type { DiskLending, DiskLendingOptions } from '../web/lend/disk.js';
export { lend } from '../web/lend/lend.js';
export type {
  Lending,
  LendingClose,
  LendingOptions,
  LendingSocket,
  LendingState,
  LendingFailure,
  LendingUse,
} from '../web/lend/lend.js';
export { pickedDisk, pickedWritable } from '../web/lend/picked.js';
export type { PickedFile, PickedHandle } from '../web/lend/picked.js';
