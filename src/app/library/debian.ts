/** Starts a Debian with far disks from a program: the library's form of `farbus run`. */
import { untilAbort } from '../../base/abort.js';
import { messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import type { ClientComputer } from '../../computer/client.js';
import { planDrive, type ClientDrive } from '../../computer/drives.js';
import type { EngineEnd } from '../../machine/engine.js';
import type { OnProgress } from '../../guest/progress.js';
import { checkMachine, chooseEngine, type EngineWord } from '../computer/engine-choice.js';
import { Media } from '../computer/media.js';
import { bootLimit, chooseGuest, createComputer, memoryFor, startGuest } from '../computer/start.js';
import { parseSource } from '../source-text.js';
import { openClientDrive } from '../sources.js';

/** Options of {@link startDebian}. */
export interface DebianOptions {
  /**
   * The drives, in the order of the guest's names: /dev/nvme0n1, /dev/nvme1n1, … Each is the text
   * of `farbus run --drive`, which the computer opens and closes, or a device or drive of the
   * caller, which it leaves open. Default: none.
   */
  readonly drives?: readonly (string | BlockDevice | ClientDrive)[];
  /**
   * `v86` emulates a 32-bit PC; `kvm` runs a 64-bit one on the processor; `auto`: KVM if possible.
   * Default: `FARBUS_ENGINE`, else auto.
   */
  readonly engine?: EngineWord | undefined;
  /** Memory in bytes. Default: 256 MiB, more if many packages need it. */
  readonly memory?: number | undefined;
  /** Number of processors, 1 to 8; v86 has one. Default 1. */
  readonly processors?: number;
  /** Debian's release. Default 12. */
  readonly release?: 11 | 12 | undefined;
  /** Names of Debian packages that the system has besides its own. Default: none. */
  readonly packages?: readonly string[] | undefined;
  /** Words that are appended to the kernel's command line. */
  readonly append?: string | undefined;
  /**
   * A file. If it exists, the computer continues from it within a second, otherwise it boots and
   * writes the file. Only for the engine v86.
   */
  readonly snapshot?: string | undefined;
  /** Time limit of the boot, in ms. Default 300000. */
  readonly bootMs?: number;
  /** How long the guest's requests wait for a lost disk, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
  /** Ends the start, which then rejects with the signal's reason. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
  /** Receives warnings, and lost and restored connections. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the progress of downloads. Must not throw. */
  readonly onProgress?: OnProgress;
  /** Receives the steps of each command of the guest, for traces. */
  readonly steps?: Steps;
}

/** Options of a command in a guest. */
export interface CommandOptions {
  /** Time limit, in ms. Default 60000. */
  readonly timeoutMs?: number;
}

/** The result of a command in a guest. */
export interface CommandResult {
  /** Its output, standard output and standard error together. */
  readonly output: string;
  /** Its exit status. */
  readonly status: number;
}

/** Default memory of a computer, in bytes. */
const usualMemory = 256 << 20;

/** A running Debian with its computer. Made by {@link startDebian}. */
export class DebianComputer {
  /** The computer: its console, screen, drives and counters. */
  readonly computer: ClientComputer;
  /** True if it continued from a snapshot instead of booting. */
  readonly fromSnapshot: boolean;
  readonly #media: Media;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(computer: ClientComputer, media: Media, fromSnapshot: boolean) {
    this.computer = computer;
    this.#media = media;
    this.fromSnapshot = fromSnapshot;
  }

  /** Resolves when the guest ends by itself: it has halted, asked for a reset, or failed. */
  get ended(): Promise<EngineEnd> {
    return this.computer.ended;
  }

  /**
   * Runs a command in a shell of its own. Commands that are given at once run one after the other.
   * @param command for `sh -c`
   * @throws ConsoleTimeout when the time is over, GuestEnded if the guest ends before the command
   */
  run(command: string, { timeoutMs = 60_000 }: CommandOptions = {}): Promise<CommandResult> {
    return this.computer.console.run(command, timeoutMs);
  }

  /**
   * Switches the computer off, as if its plug were pulled, and closes the drives that it opened.
   * Let the guest unmount or sync before. Idempotent.
   */
  close(): Promise<void> {
    return (this.#closed ??= (async () => {
      await this.computer.stop();
      await this.#media.close();
    })());
  }
}

/**
 * Starts a computer with an unmodified Debian, whose drives may be far away. The kernel and the
 * system are downloaded into ~/.cache/farbus at the first start, with verified checksums.
 *
 * @returns the computer when its shell answers
 * @throws FarbusError if a drive cannot be opened, the system cannot be downloaded, or it does not
 * boot
 *
 * @example
 * ```ts
 * import { startDebian } from 'farbus/node';
 *
 * const debian = await startDebian({ drives: ['nbd://server/disk.img,read-only'] });
 * const { output } = await debian.run('mount -o ro /dev/nvme0n1 /mnt && ls /mnt');
 * console.log(output);
 * await debian.close();
 * ```
 */
export async function startDebian(options: DebianOptions = {}): Promise<DebianComputer> {
  const { log = silent, signal, steps, processors = 1, reconnectSeconds = 60, snapshot } = options;
  const opening = { reconnectSeconds, log, signal, ...(steps && { steps }) };
  const drives: ClientDrive[] = [];
  const media = new Media(drives, opening);
  let computer: ClientComputer | undefined;
  try {
    for (const drive of options.drives ?? []) drives.push(await openDrive(drive, opening, media));
    const plans = drives.map(planDrive);
    const has = (bus: string): boolean => plans.some((plan) => plan.bus === bus);
    const lacks = [...(options.release === 11 ? ['Debian 11'] : []), ...(has('ide') ? ['bus=ide'] : [])];
    const engine = chooseEngine(options.engine, process.env, { lacks, memory: options.memory });
    checkMachine(engine, options.memory ?? 0, processors);
    const guest = await chooseGuest({
      release: options.release,
      architecture: engine.architecture,
      tools: options.packages,
      append: options.append,
      ahci: has('ahci'),
      ide: has('ide'),
      log,
      signal,
      ...(options.onProgress && { onProgress: options.onProgress }),
    });
    signal?.throwIfAborted();
    const memory = memoryFor(guest, options.memory, usualMemory);
    const machine = { engine: engine.name, processors, log, onEject: media.ejected, ...(steps && { steps }) };
    computer = await createComputer(drives, memory, machine);
    media.setComputer(computer);
    const starting = startGuest(computer, guest, snapshot, memory, { limitMs: options.bootMs ?? bootLimit, log });
    const started = await untilAbort(signal, starting);
    return new DebianComputer(computer, media, started.from === 'snapshot');
  } catch (error) {
    await computer?.stop();
    await media.close().catch((failure: unknown) => log.log('warn', messageOf(failure)));
    throw error;
  }
}

async function openDrive(
  drive: string | BlockDevice | ClientDrive,
  opening: Parameters<typeof openClientDrive>[1],
  media: Media,
): Promise<ClientDrive> {
  if (typeof drive !== 'string') return 'info' in drive ? { device: drive } : drive;
  const opened = await openClientDrive(parseSource(drive), opening);
  if (opened.device) media.add(opened.device, drive);
  return opened;
}
