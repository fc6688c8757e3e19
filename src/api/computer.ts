/**
 * `farbus/computer`: client and server computers, on an engine that the caller creates
 * (`farbus/v86`). Runs in Node and in browsers. `startDebian` of `farbus/node` is the short way.
 *
 * @module farbus/computer
 */
export type { AhciDrives } from '../computer/ahci-drives.js';
export { ClientComputer } from '../computer/client.js';
export { Computer } from '../computer/computer.js';
export type { ComputerCounts, ComputerOptions, SaveOptions } from '../computer/options.js';
export { ConsoleTimeout, SerialConsole } from '../computer/console.js';
export type { ClientDrive, DriveBus, DriveKind } from '../computer/drives.js';
export { GuestEnded } from '../computer/guest-end.js';
export { GuestShellEnded } from '../computer/guest-shell.js';
export type { ShellOptions } from '../computer/guest-shell.js';
export type { LegMedians } from '../computer/legs.js';
export { ScreenConsole } from '../computer/screen-console.js';
export { ServerComputer } from '../computer/server.js';
export { SharedAdapter } from '../computer/shared-adapter.js';
export type { AdapterCounters, SharedAdapterOptions } from '../computer/shared-adapter.js';
export type { IoCounts } from '../computer/virtual-io-client.js';
export type { LinuxImage } from '../machine/boot/linux.js';
export type { Engine, EngineEnd, EngineSnapshots, Firmware, FirmwareVariables } from '../machine/engine.js';
export { decodeSnapshot, encodeSnapshot, isSnapshot, SnapshotError } from '../machine/snapshot.js';
export type { SavedContent, Snapshot, SnapshotCodec, SnapshotDrive, SnapshotFault } from '../machine/snapshot.js';
export type { MouseMove, Picture } from '../machine/screen.js';
export type { TrapCounts } from '../machine/trap.js';
export type { FrameClaim, FrameOwner } from '../network/ethernet/claim.js';
