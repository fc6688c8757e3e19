/** The description of a computer in a tab, which its page sends to the worker. */
import type { TabDrive } from './drives.js';

/** The first system of a computer: Debian from the server, or the one on the first drive. */
export type TabSystem = 'debian' | 'drive';

/** Describes a computer in a tab. */
export interface MachineOptions {
  /** Address of the list of the guest's files: `https://HOST:PORT/guest/system.json`. */
  readonly guest: string;
  /** Token of access to these files, if the server wants one. */
  readonly token?: string | undefined;
  /** Default: `debian`. */
  readonly system?: TabSystem;
  /** The drives at the start, for the first ports. Default: none. */
  readonly drives?: readonly TabDrive[];
  /** If false, Debian boots; otherwise it continues from the server's snapshot. Default: true. */
  readonly snapshot?: boolean;
  /**
   * A snapshot of `TabComputer.save`, taken with these drives, from which to continue. It is
   * refused if a disk was written since.
   */
  readonly saved?: Uint8Array | undefined;
}
