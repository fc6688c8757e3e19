/**
 * Assembles a computer for the command line: the engine, the guest's packages, and a start from a
 * snapshot or by a boot.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { errnoOf, FarbusError, messageOf, usageError } from '../../base/errors.js';
import { makeFolders } from '../../base/folders.node.js';
import { formatBytes } from '../../base/format.js';
import { silent, type Logger } from '../../base/log.js';
import { release } from '../../base/releasable.js';
import type { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import { ClientComputer } from '../../computer/client.js';
import type { Computer } from '../../computer/computer.js';
import { GuestEnded } from '../../computer/guest-end.js';
import { ServerComputer } from '../../computer/server.js';
import type { ComputerOptions } from '../../computer/options.js';
import type { SharedAdapter } from '../../computer/shared-adapter.js';
import type { ClientDrive } from '../../computer/drives.js';
import {
  ahciModules,
  bootModules,
  defaultCommandLine,
  ideModules,
  networkModules,
  prepareDebianGuest,
} from '../../guest/debian.node.js';
import { prepareFirmware, prepareUefi } from '../../guest/firmware.node.js';
import { unpackKernel } from '../../guest/kernel.node.js';
import type { Architecture, DebianRelease } from '../../guest/lock.node.js';
import type { OnProgress } from '../../guest/progress.js';
import type { LinuxImage } from '../../machine/boot/linux.js';
import type { Engine, Firmware } from '../../machine/engine.js';
import { createKvm, type KvmOptions } from '../../machine/engines/kvm/kvm.node.js';
import { createV86 } from '../../machine/engines/v86/create.js';
import { formatMac } from '../../network/ethernet/mac.js';
import { maxMemory, type EngineName } from './engine-choice.js';
import { checkOutputFolder } from '../output-file.js';
import { goOnFrom, saveTo } from './snapshot.js';
import { UefiVariables } from './uefi-variables.js';

/** Minimum memory of a computer, in bytes. */
export const minMemory = 64 << 20;
/** The init script of our initramfs prints this just before its shell starts. */
export const initReadyText = 'farbus: ready';
/** Default time limit until the text of the boot's end appears, in ms. */
export const bootLimit = 300_000;

/** The system to boot, and the id that its snapshots depend on. */
export interface Guest {
  /** Undefined if the firmware boots from a drive. */
  readonly image: LinuxImage | undefined;
  readonly firmware?: Firmware;
  readonly id: string;
  readonly version: string;
  /** Text that it prints when it has booted; undefined if unknown. */
  readonly readyText: string | undefined;
  /** True if it has mounted no drive when it has booted, and read no file. Default: false. */
  readonly sparesDrives?: boolean;
  /** Call when the computer has stopped: keeps what the firmware has stored. */
  readonly close?: () => Promise<void>;
}

export interface GuestChoice {
  /** Firmware that boots from the first bootable drive. Default: a kernel is booted directly. */
  readonly firmware?: 'bios' | 'uefi' | undefined;
  /** File for UEFI's variables. Default: they are forgotten at the end. */
  readonly uefiVariables?: string | undefined;
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  /** Appended to the default command line; replaces it if a kernel is given. */
  readonly append?: string | undefined;
  readonly readyText?: string | undefined;
  /** Load the modules for drives on AHCI in Debian's kernel. */
  readonly ahci?: boolean;
  /** Load the modules for drives on IDE. */
  readonly ide?: boolean;
  /** Load the modules for a network card. */
  readonly network?: boolean;
  /** Names of further Debian packages to include in its system. */
  readonly tools?: readonly string[] | undefined;
  /** Release of Debian. Default: 12. */
  readonly release?: DebianRelease | undefined;
  /** The processor that the engine has. Default: i386. */
  readonly architecture?: Architecture | undefined;
  readonly log: Logger;
  readonly onProgress?: OnProgress;
  /** Aborts fetching and unpacking. */
  readonly signal?: AbortSignal | undefined;
}

/** The requested kernel and initramfs; Debian's if none are requested. */
export async function chooseGuest(choice: GuestChoice): Promise<Guest> {
  if (choice.firmware !== undefined) return chooseFirmware(choice);
  if (choice.kernel === undefined) {
    const { kernel, initramfs, id, version } = await prepareDebianGuest({
      log: choice.log,
      release: choice.release,
      architecture: choice.architecture,
      tools: choice.tools,
      modules: [
        ...bootModules(choice.release),
        ...(choice.ahci ? ahciModules : []),
        ...(choice.ide ? ideModules : []),
        ...(choice.network ? networkModules[choice.architecture ?? 'i386'] : []),
      ],
      ...(choice.onProgress && { onProgress: choice.onProgress }),
      signal: choice.signal,
    });
    const commandLine = choice.append ? `${defaultCommandLine} ${choice.append}` : defaultCommandLine;
    const own = choice.initrd === undefined ? initramfs : await readInput('--initrd', choice.initrd);
    const readyText = choice.readyText ?? (choice.initrd === undefined ? initReadyText : undefined);
    return {
      image: { ...kernel, initramfs: own, commandLine },
      id: hash(id, own),
      version: `Debian ${choice.release ?? 12}, kernel ${version}`,
      readyText,
      sparesDrives: choice.initrd === undefined,
    };
  }
  if (!existsSync(choice.kernel)) throw new FarbusError(`--kernel ${choice.kernel}: there is no such file`);
  const kernel = await unpackKernel(choice.kernel, { signal: choice.signal });
  const initramfs = choice.initrd === undefined ? undefined : await readInput('--initrd', choice.initrd);
  const commandLine = choice.append ?? defaultCommandLine;
  const id = hash(kernel.bzImage, initramfs ?? '');
  return {
    image: { ...kernel, ...(initramfs && { initramfs }), commandLine },
    id,
    version: choice.kernel,
    readyText: choice.readyText,
  };
}

async function chooseFirmware(choice: GuestChoice): Promise<Guest> {
  const { log, onProgress, readyText, signal } = choice;
  const options = { log, signal, ...(onProgress && { onProgress }) };
  if (choice.firmware === 'uefi') {
    const { code, variables: initial } = await prepareUefi(options);
    const variables = await UefiVariables.open(choice.uefiVariables, initial, log);
    const firmware = { bios: code, variables };
    const close = () => variables.close();
    return { image: undefined, firmware, id: hash(code, initial), version: 'the UEFI firmware', readyText, close };
  }
  const firmware = await prepareFirmware(options);
  return {
    image: undefined,
    firmware,
    id: hash(firmware.bios, firmware.vgaBios ?? ''),
    version: 'the firmware',
    readyText,
  };
}

/** Bytes of initramfs that fit with the minimum and the default memory. */
const usualInitramfs = 12 << 20;
/**
 * Bytes of memory per further byte of initramfs: the kernel holds it twice while unpacking it, and
 * lets files fill half of the memory only.
 */
const memoryPerByte = 3;

/**
 * The memory of a computer in bytes: what the user wants, or `usual` plus the need of a large
 * initramfs.
 * @throws FarbusError if the user wants too little
 */
export function memoryFor(guest: Guest, wanted: number | undefined, usual: number): number {
  const size = guest.image?.initramfs?.length ?? 0;
  const more = Math.ceil((Math.max(0, size - usualInitramfs) * memoryPerByte) / (16 << 20)) * (16 << 20);
  const least = minMemory + more;
  if (wanted !== undefined && wanted < least) {
    throw usageError(
      `a memory of ${formatBytes(wanted)} is too little for this system, which is ${formatBytes(size)} itself: ${least >> 20}M at least`,
    );
  }
  return wanted ?? Math.min(maxMemory, usual + more);
}

/** Parts of a computer besides drives and memory. */
export interface MachineOptions {
  readonly steps?: Steps;
  readonly log: Logger;
  readonly onEject?: (index: number, medium: BlockDevice) => void;
  /** The adapter of the guest's network card. Default: no card. */
  readonly adapter?: SharedAdapter | undefined;
  /** The contents of its ROMs. Default: none. */
  readonly firmware?: Firmware | undefined;
  /** Default: v86. */
  readonly engine?: EngineName | undefined;
  /** Number of processors, if the engine can have several. Default: 1. */
  readonly processors?: number | undefined;
}

type Drives = readonly (BlockDevice | ClientDrive)[];

/** Creates a client computer; it does not run yet. */
export function createComputer(drives: Drives, memorySize: number, options: MachineOptions): Promise<ClientComputer> {
  return ClientComputer.create(partsOf(drives, memorySize, options));
}

/** Creates a server computer. Its drives are the local disks of OS 2. */
export function createServerComputer(
  drives: Drives,
  memorySize: number,
  options: MachineOptions,
): Promise<ServerComputer> {
  return ServerComputer.create(partsOf(drives, memorySize, options));
}

function partsOf(drives: Drives, memorySize: number, options: MachineOptions): ComputerOptions {
  const { engine, processors, firmware } = options;
  if (engine === 'kvm') {
    return {
      ...options,
      drives,
      createEngine: (trap, onEnd) => createOnKvm({ memorySize, processors, trap, firmware, onEnd }),
    };
  }
  const wasmPath = join(dirname(v86Module()), 'v86.wasm');
  const mac = options.adapter?.mac;
  return {
    createEngine: (trap, onEnd, ide) => createV86({ memorySize, wasmPath, trap, mac, firmware, ide, onEnd }),
    drives,
    ...options,
  };
}

/**
 * Creates a machine on KVM.
 * @throws FarbusError if the kernel refuses one, or KVM has gone since it was chosen
 */
async function createOnKvm(options: KvmOptions): Promise<Engine> {
  try {
    return await createKvm(options);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new FarbusError(`KVM cannot be used: ${messageOf(error)}; --engine v86 works everywhere`, { cause: error });
  }
}

/** How a computer was started. */
export interface StartResult {
  readonly from: 'boot' | 'snapshot';
  readonly ms: number;
  /** Bytes of the snapshot, if one was written. */
  readonly saved?: number;
}

/** Options of starting a guest. */
export interface StartOptions {
  /** Time limit of the boot, in ms. Default: {@link bootLimit}. */
  readonly limitMs?: number;
  /**
   * Replace a snapshot of another computer or of other drives instead of refusing it. Default:
   * false.
   */
  readonly renew?: boolean | undefined;
  /** Continue from a snapshot even if a disk was written since. Default: false. */
  readonly evenIfWritten?: boolean | undefined;
  /**
   * The guest is not started again: give the memory of its kernel and initramfs back. Default:
   * false.
   */
  readonly once?: boolean;
  readonly log?: Logger;
}

/**
 * Starts the guest: from the snapshot file if it is usable, else by a boot, after which the file
 * is written.
 * @throws FarbusError if the file is no snapshot or one of another computer or disk, or if the
 * guest does not boot
 */
export async function startGuest(
  computer: Computer,
  guest: Guest,
  snapshot: string | undefined,
  memorySize: number,
  { limitMs = bootLimit, renew = false, evenIfWritten = false, once = false, log = silent }: StartOptions = {},
): Promise<StartResult> {
  const started = performance.now();
  const key = keyOf(computer, guest, memorySize);
  const file = snapshot === undefined ? undefined : { path: snapshot, key, renew, evenIfWritten, log };
  if (file) await checkOutputFolder(file.path);
  const restored = file !== undefined && (await goOnFrom(computer, file));
  if (!restored) boot(computer, guest);
  if (once && guest.image) for (const part of partsOfImage(guest.image)) release(part);
  if (restored) return { from: 'snapshot', ms: performance.now() - started };
  if (guest.readyText === undefined) return { from: 'boot', ms: performance.now() - started };
  await waitForText(computer, guest.readyText, guest.image === undefined, limitMs);
  const saved = file && (await saveTo(computer, file, { unused: guest.sparesDrives }));
  return { from: 'boot', ms: performance.now() - started, ...(saved !== undefined && { saved }) };
}

/**
 * Saves a running computer to `path`, whose folder is made if need be, and returns the path. A
 * start with this file as its snapshot goes on from there. An abort of `signal` gives up the wait
 * for commands in flight.
 * @throws FarbusError
 */
export async function saveRunning(
  computer: Computer,
  guest: Guest,
  memorySize: number,
  path: string,
  signal: AbortSignal,
): Promise<string> {
  try {
    makeFolders(dirname(path), 0o700);
  } catch (error) {
    throw new FarbusError(`cannot make the folder of snapshots: ${messageOf(error)}`, { cause: error });
  }
  await saveTo(computer, { path, key: keyOf(computer, guest, memorySize) }, { signal });
  return path;
}

function keyOf(computer: Computer, guest: Guest, memorySize: number): string {
  const mac = computer.adapter ? formatMac(computer.adapter.mac) : '';
  return snapshotKey(guest, memorySize, { kind: computer.snapshotKind, mac });
}

/**
 * Identifies the computer that a snapshot belongs to.
 * @param parts `kind`: the engine's name for what its snapshots depend on; default: that of v86.
 *   `mac`: the MAC address of its network card; default: it has none
 */
export function snapshotKey(
  guest: Guest,
  memorySize: number,
  { kind = v86Version(), mac = '' }: { kind?: string | undefined; mac?: string } = {},
): string {
  return hash(guest.id, guest.image?.commandLine ?? '', String(memorySize), kind, mac);
}

function partsOfImage({ bzImage, vmlinux, initramfs }: LinuxImage): Uint8Array[] {
  return [bzImage, vmlinux, ...(initramfs ? [initramfs] : [])];
}

function boot(computer: Computer, guest: Guest): void {
  try {
    if (guest.image) computer.boot(guest.image);
    else computer.bootFirmware();
  } catch (error) {
    throw new FarbusError(`the computer cannot start: ${messageOf(error)}`);
  }
}

async function waitForText(
  computer: Computer,
  readyText: string,
  onScreenToo: boolean,
  limitMs: number,
): Promise<void> {
  const pattern = new RegExp(readyText.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  try {
    const shown = onScreenToo && computer.screen ? [computer.screen.waitFor(pattern, limitMs)] : [];
    await Promise.race([computer.console.waitFor(pattern, limitMs), ...shown]);
  } catch (error) {
    if (error instanceof GuestEnded) throw new FarbusError(`${error.message} before it had booted`);
    throw new FarbusError(`the guest did not boot: ${messageOf(error)}`);
  }
}

async function readInput(option: string, path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new FarbusError(`${option} ${path}: ${messageOf(error)}`);
  }
}

/** Path of the module of the package v86. The file v86.wasm is beside it. */
export function v86Module(): string {
  return createRequire(import.meta.url).resolve('v86');
}

/** The version of v86; its snapshots depend on it. */
function v86Version(): string {
  const file = join(dirname(v86Module()), '../package.json');
  return `v86 ${(createRequire(import.meta.url)(file) as { version: string }).version}`;
}

function hash(...parts: (string | Uint8Array)[]): string {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part).update('\0');
  return sum.digest('hex');
}
