/** Options of a computer and of saving it, and its counts. */
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import type { Engine, EngineEnd, EngineExits } from '../machine/engine.js';
import type { IdeDisk } from '../machine/ide-disk.js';
import type { TrapCounts, TrapHandler } from '../machine/trap.js';
import type { ClientDrive } from './drives.js';
import type { LegMedians } from './legs.js';
import type { SharedAdapter } from './shared-adapter.js';
import type { IoCounts } from './virtual-io-client.js';

/** Options of {@link ClientComputer.create} and {@link ServerComputer.create}. */
export interface ComputerOptions {
  /**
   * Creates the engine, which the composition root chooses. If there is an adapter and the engine
   * has a network card, the card must have the adapter's MAC address.
   */
  readonly createEngine: (
    trap: TrapHandler,
    onEnd: (why: EngineEnd, detail?: string) => void,
    ide: readonly IdeDisk[],
  ) => Promise<Engine>;
  /**
   * The drives in the guest's order. A plain block device becomes an NVMe disk. The computer does
   * not close the devices.
   */
  readonly drives: readonly (BlockDevice | ClientDrive)[];
  /** Called when a guest has ejected the medium of drive `index`. The medium is not closed. */
  readonly onEject?: (index: number, medium: BlockDevice) => void;
  /**
   * The network connection of the operating system's network card. The computer does not close it.
   */
  readonly adapter?: SharedAdapter | undefined;
  /** Receives the steps of each command. Default: none. */
  readonly steps?: Steps;
  /** Receives warnings. Default: nothing is logged. */
  readonly log?: Logger;
}

/** Options of {@link Computer.save}. */
export interface SaveOptions {
  /**
   * The guest has mounted no drive and read no file, so that drives that it has not written may be
   * written before it continues. Default: false.
   */
  readonly unused?: boolean | undefined;
  /**
   * Gives up the wait for the commands in flight, which may last as long as their reconnect time:
   * saving rejects with the signal's reason, and the guest goes on.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Counts since the start, for summaries, benchmarks and tests. */
export interface ComputerCounts {
  /** Accesses to guarded addresses. */
  readonly traps: Readonly<TrapCounts>;
  /** Requests to the drives, and their bytes. */
  readonly io: Readonly<IoCounts>;
  /** Number of commands completed on I/O queues, and of interrupts raised for them. */
  readonly commands: number;
  /** Interrupts that were raised for completed commands. */
  readonly interrupts: number;
  /** Median times of the legs of a command, in ms. */
  readonly legs: LegMedians;
  /** Exits of the processors; undefined if the engine has none. */
  readonly exits?: EngineExits | undefined;
}
