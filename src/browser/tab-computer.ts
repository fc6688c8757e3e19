/**
 * A computer in a browser tab, as a page uses it. The computer itself runs in a worker (worker.ts).
 */
import { FarbusError } from '../base/errors.js';
import type { LogLevel } from '../base/log.js';
import type { ComputerCounts } from '../computer/options.js';
import type { MouseMove, Picture } from '../machine/screen.js';
import type { RemoteState } from '../protocol/remote/reconnection.js';
import type { TabDrive } from './drives.js';
import type { FlowReport } from './flow-report.js';
import type { MachineOptions } from './machine-options.js';
import { Messages, type MessageEnd } from './messages.js';

/**
 * The state of a computer. `ended`: its guest has halted, asked for a reset, or made the engine
 * fail; `failed`: it could not be started; `stopped`: it was switched off.
 */
export type TabState = 'starting' | 'running' | 'paused' | 'ended' | 'failed' | 'stopped';

/** Options of {@link TabComputer.start}. Receivers must not throw. */
export interface TabComputerOptions extends MachineOptions {
  /** Receives the bytes of the serial console, for a terminal. */
  readonly onSerial?: (bytes: Uint8Array) => void;
  /** Called at every change of the state, with a line of detail or ''. */
  readonly onState?: (state: TabState, detail: string) => void;
  /** Called when the connection of the drive at a port changes. */
  readonly onDrive?: (port: number, state: RemoteState, detail: string) => void;
  /**
   * Called when the cache of the drive at a port does not work or stops, with a sentence for
   * people. The drive works on without it.
   */
  readonly onCache?: (port: number, trouble: string) => void;
  /** Receives warnings and other lines. */
  readonly onLog?: (level: LogLevel, message: string) => void;
  /**
   * Receives the flow of the commands while {@link TabComputer.watchFlow} is on. It costs the guest
   * little, because only some commands of each interval have steps.
   */
  readonly onFlow?: (report: FlowReport) => void;
}

/** The result of {@link TabComputer.run}. */
export interface TabCommandResult {
  /** Standard output and standard error together. */
  readonly output: string;
  /** Exit status. */
  readonly status: number;
}

/** A computer in a browser tab. Made by {@link TabComputer.start}. */
export class TabComputer {
  readonly #worker: Worker;
  readonly #messages: Messages;
  readonly #options: TabComputerOptions;
  #state: TabState = 'starting';

  private constructor(options: TabComputerOptions) {
    this.#options = options;
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
    this.#messages = new Messages(
      this.#worker as unknown as MessageEnd,
      () => undefined,
      (event, value) => this.#receive(event, value),
    );
    this.#worker.onerror = ({ message }) => this.#fail(message || 'its files cannot be loaded');
  }

  /**
   * Starts a computer in a worker of this page. Resolves when the shell of its Debian answers, or
   * when its firmware has started.
   * @throws FarbusError if it cannot be started: the server, a drive, the overlay or the browser
   *
   * @example A page with a far disk of farbus serve --web
   * ```ts
   * import { TabComputer } from 'farbus/browser';
   *
   * const computer = await TabComputer.start({
   *   guest: new URL('/guest/system.json', location.href).href,
   *   drives: [{ url: `ws://${location.host}/nbd/disk.img`, overlay: 'mine' }],
   *   onSerial: (bytes) => document.body.append(new TextDecoder().decode(bytes)),
   * });
   * console.log((await computer.run('ls /dev/sda')).output);
   * ```
   */
  static async start(options: TabComputerOptions): Promise<TabComputer> {
    const computer = new TabComputer(options);
    // Functions cannot be sent to a worker.
    const plain = Object.entries(options).filter(([, value]) => typeof value !== 'function');
    try {
      await computer.#messages.call('start', Object.fromEntries(plain));
    } catch (error) {
      computer.#worker.terminate();
      computer.#set('failed', error instanceof Error ? error.message : String(error));
      throw error;
    }
    computer.#set('running');
    return computer;
  }

  /** Its present state. */
  get state(): TabState {
    return this.#state;
  }

  /** Sends bytes to the serial console: what the user types in a terminal. */
  sendSerial(bytes: Uint8Array): Promise<void> {
    return this.#messages.call('sendSerial', bytes);
  }

  /**
   * Runs a command in a shell of its own, if the guest is the server's Debian.
   * @param timeoutMs time limit, in ms
   */
  run(command: string, timeoutMs = 60_000): Promise<TabCommandResult> {
    return this.#messages.call('run', command, timeoutMs);
  }

  /** The content of the screen; undefined if it has not changed since the last call. */
  look(): Promise<Picture | undefined> {
    return this.#messages.call('look');
  }

  /** Types a text in which `<enter>` and other names are keys. */
  type(keys: string): Promise<void> {
    return this.#messages.call('type', keys);
  }

  /** Sends codes of scan code set 1 from the keyboard. */
  sendKeys(codes: readonly number[]): Promise<void> {
    return this.#messages.call('sendKeys', codes);
  }

  /** Moves the mouse by steps of its own, and sets its buttons. */
  sendMouse(move: MouseMove): Promise<void> {
    return this.#messages.call('sendMouse', move);
  }

  /** Stops the processor until {@link resume}. */
  async pause(): Promise<void> {
    await this.#messages.call('pause');
    this.#set('paused');
  }

  /** Continues after {@link pause}. */
  async resume(): Promise<void> {
    await this.#messages.call('resume');
    this.#set('running');
  }

  /**
   * Switches the computer off and starts it anew with the drives that it had at first. What the
   * guest has not flushed is lost.
   */
  async reset(): Promise<void> {
    this.#set('starting');
    try {
      await this.#messages.call('reset');
    } catch (error) {
      this.#set('failed', error instanceof Error ? error.message : String(error));
      throw error;
    }
    this.#set('running');
  }

  /** Attaches a disk to an empty port while the computer runs. */
  attach(port: number, drive: TabDrive): Promise<void> {
    return this.#messages.call('attach', port, drive);
  }

  /** Takes the disk off a port. Let the guest unmount it before. */
  detach(port: number): Promise<void> {
    return this.#messages.call('detach', port);
  }

  /**
   * A snapshot of the running computer, as the content of a file. `saved` of the options continues
   * from it, with the same drives.
   */
  save(): Promise<Uint8Array> {
    return this.#messages.call('save');
  }

  /** Counts since the start. */
  counts(): Promise<ComputerCounts> {
    return this.#messages.call('counts');
  }

  /** Begins or ends the reports to `onFlow`. */
  watchFlow(on: boolean): Promise<void> {
    return this.#messages.call('watchFlow', on);
  }

  /**
   * Switches the computer off, as if its plug were pulled, and closes its drives. Let the guest
   * unmount or sync before.
   */
  async stop(): Promise<void> {
    if (this.#state === 'stopped' || this.#state === 'failed') return;
    try {
      await this.#messages.call('stop');
    } finally {
      this.#worker.terminate();
      this.#messages.fail(new FarbusError('this computer was switched off'));
      this.#set('stopped');
    }
  }

  #receive(event: string, value: unknown): void {
    const { onSerial, onDrive, onCache, onLog, onFlow } = this.#options;
    switch (event) {
      case 'serial':
        return onSerial?.(value as Uint8Array);
      case 'ended':
        return this.#set('ended', value as string);
      case 'drive': {
        const { port, state, detail } = value as { port: number; state: RemoteState; detail: string };
        return onDrive?.(port, state, detail);
      }
      case 'cache': {
        const { port, trouble } = value as { port: number; trouble: string };
        return onCache?.(port, trouble);
      }
      case 'log': {
        const { level, message } = value as { level: LogLevel; message: string };
        return onLog?.(level, message);
      }
      case 'flow':
        return onFlow?.(value as FlowReport);
    }
  }

  #fail(why: string): void {
    const error = new FarbusError(`the worker of this computer has failed: ${why}`);
    this.#set('failed', error.message);
    this.#messages.fail(error);
  }

  #set(state: TabState, detail = ''): void {
    this.#state = state;
    this.#options.onState?.(state, detail);
  }
}
