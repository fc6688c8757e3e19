/** Runs a site from a program: the library's form of `farbus up`. */
import { existsSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { onAbort } from '../../base/abort.js';
import { FarbusError } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import { SerialConsole } from '../../computer/console.js';
import type { OnProgress } from '../../guest/progress.js';
import { isOver, isUp, type LeaseState } from '../../site/computer.js';
import type { ComputerPlan, SiteDrive, SitePlan } from '../../site/plan.js';
import type { ComputerStatus, Supervisor } from '../../site/supervisor.js';
import { readConfigText } from '../config/reader.js';
import { readSite } from '../config/site.js';
import { prepareSystems, siteSupervisor } from '../site/start.js';
import { absoluteText } from '../source-text.js';
import type { CommandOptions, CommandResult } from './debian.js';
import type { SiteDescription } from './site-description.js';

/** Options of {@link startSite}. */
export interface SiteOptions {
  /** Called at each change of a computer's state. Must not throw. */
  readonly onStatus?: (status: ComputerStatus) => void;
  /** Receives what a computer prints on its console. Must not throw. */
  readonly onOutput?: (computer: string, bytes: Uint8Array) => void;
  /** A folder for COMPUTER.trace, the steps of every command. Default: no traces. */
  readonly traceFolder?: string;
  /** Ends the start, which then rejects with the signal's reason. Later it has no effect. */
  readonly signal?: AbortSignal;
  /** Receives the messages of the computers. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the progress of downloads. Must not throw. */
  readonly onProgress?: OnProgress;
}

/** A running site. Made by {@link startSite}. */
export class Site {
  readonly #supervisor: Supervisor;
  readonly #consoles = new Map<string, SerialConsole>();

  /** @internal */
  constructor(supervisor: Supervisor) {
    this.#supervisor = supervisor;
  }

  /** The site's name. */
  get name(): string {
    return this.#supervisor.name;
  }

  /** The state of each computer. */
  get computers(): readonly ComputerStatus[] {
    return this.#supervisor.status;
  }

  /** The devices that a server shares with its own system, and the side that may write each. */
  get leases(): readonly LeaseState[] {
    return this.#supervisor.leases;
  }

  /** Resolves when no computer runs any more. */
  get over(): Promise<void> {
    return this.#supervisor.over;
  }

  /**
   * The console of a computer.
   * @throws FarbusError if the site has no such computer
   */
  console(computer: string): SerialConsole {
    const found = this.#consoles.get(computer);
    if (found) return found;
    const feed = this.#supervisor.console(computer);
    const console = new SerialConsole(async (bytes) => this.#supervisor.input(computer, bytes));
    this.#consoles.set(computer, console);
    feed.watch({
      receive: (bytes) => {
        for (const byte of bytes) console.receive(byte);
      },
      over: () => console.close(new FarbusError(`${computer} has ended`)),
    });
    return console;
  }

  /**
   * Runs a command in the shell of a computer.
   * @throws FarbusError if there is no such computer or it has ended, ConsoleTimeout when the time
   * is over
   */
  async run(computer: string, command: string, { timeoutMs = 60_000 }: CommandOptions = {}): Promise<CommandResult> {
    return this.console(computer).run(command, timeoutMs);
  }

  /**
   * Moves the lease of a device: the other side may write it from then on.
   * @param device `SERVER/DEVICE`
   * @param to `network` or `local`
   * @throws FarbusError if the lease stays where it is
   */
  async moveLease(device: string, to: 'network' | 'local', signal?: AbortSignal): Promise<void> {
    const work = { signal: signal ?? new AbortController().signal, waitsFor: () => undefined };
    await this.#supervisor.moveLease(device, to, work);
  }

  /** Ends all computers, clients before servers, and the segments. Idempotent. */
  close(): Promise<void> {
    return this.#supervisor.stop();
  }
}

/**
 * Starts the computers and segments of a site.
 *
 * @param site the path of a site file, whose relative paths start at its folder; or the same as an
 * object, whose relative paths start at the working directory
 * @returns the site, when all computers are up
 * @throws FarbusError if the site is wrong (kind `usage`), or if a computer does not come up; then
 * the site is ended
 *
 * @example
 * ```ts
 * import { startSite } from 'farbus/node';
 *
 * const site = await startSite({
 *   segments: { lan: { mtu: 9000 } },
 *   computers: {
 *     store: { role: 'server', network: 'lan', devices: { disk: { source: 'disk.img' } } },
 *     desk: { role: 'client', network: 'lan', drives: [{ far: 'store/disk' }] },
 *   },
 * });
 * const { output } = await site.run('desk', 'cat /sys/block/nvme0n1/size');
 * console.log(output);
 * await site.close();
 * ```
 */
export async function startSite(site: string | SiteDescription, options: SiteOptions = {}): Promise<Site> {
  const { log = silent, signal, onProgress, onStatus, onOutput, traceFolder } = options;
  const plan = typeof site === 'string' ? await planOfFile(site) : planOf(site);
  const onEngine = (line: string) => log.log('info', line);
  await prepareSystems(plan, process.env, { log, onEngine, signal, ...(onProgress && { onProgress }) });
  let changed: () => void = () => undefined;
  const supervisor = siteSupervisor(plan, {
    traceFolder,
    events: {
      status: (status) => {
        onStatus?.(status);
        changed();
      },
      output: (computer, bytes) => onOutput?.(computer, bytes),
      log: (computer, level, message) => log.log(level, `${computer}: ${message}`),
    },
  });
  const stopWatching = onAbort(signal, () => changed());
  try {
    await supervisor.start();
    for (;;) {
      signal?.throwIfAborted();
      const over = supervisor.status.find(({ state }) => isOver(state));
      if (over) throw new FarbusError(`${over.name} is not up: it has ${over.state}: ${over.detail}`);
      if (supervisor.status.every(({ state }) => isUp(state))) return new Site(supervisor);
      await new Promise<void>((resolve) => (changed = resolve));
    }
  } catch (error) {
    await supervisor.stop();
    throw error;
  } finally {
    stopWatching();
  }
}

async function planOfFile(file: string): Promise<SitePlan> {
  const name = basename(file).replace(/\.[^.]*$/, '');
  return planAt(dirname(resolve(file)), file, await readConfigText(file), name);
}

function planOf(site: SiteDescription): SitePlan {
  // JSON is YAML. With indentation, the line of an error leads to the place in the object.
  return planAt(process.cwd(), 'the site', JSON.stringify(site, undefined, 2), 'site');
}

/** Reads a site whose relative paths start at `folder`. */
function planAt(folder: string, file: string, text: string, name: string): SitePlan {
  const checkFile = (path: string): void => {
    if (!existsSync(resolve(folder, path))) throw new FarbusError(`there is no file ${path}`);
  };
  const plan = readSite(file, text, { name, checkFile });
  return { ...plan, computers: plan.computers.map((computer) => withAbsolutePaths(computer, folder)) };
}

/** The processes of the computers have the working directory of this one. */
function withAbsolutePaths(plan: ComputerPlan, folder: string): ComputerPlan {
  const path = (one: string | undefined): string | undefined => (one === undefined ? one : resolve(folder, one));
  const drive = (one: SiteDrive): SiteDrive =>
    one.kind === 'text' ? { ...one, text: absoluteText(one.text, folder) } : one;
  return {
    ...plan,
    snapshot: path(plan.snapshot),
    system: { ...plan.system, kernel: path(plan.system.kernel), initrd: path(plan.system.initrd) },
    drives: plan.drives.map(drive),
    devices: plan.devices.map((device) => ({ ...device, source: absoluteText(device.source, folder) })),
  };
}
