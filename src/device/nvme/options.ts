/** The options of an NVMe controller. */
import type { Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import type { Trap } from '../../machine/trap.js';
import type { NvmeIdentity } from '../../spec/nvme-identify.js';
import type { CommandTimes } from '../command-times.js';

export interface NvmeOptions {
  readonly base: number;
  readonly memory: GuestMemory;
  /** The block device of the namespace: the virtual I/O client 260. */
  readonly disk: BlockDevice;
  readonly identity: NvmeIdentity;
  readonly steps?: Steps;
  /** Attributes a command to the trap that issued it, for `--trace` ([SYS] fig. 6). */
  readonly attribute?: (traceId: number, trap: Trap) => void;
  readonly onCommand?: (times: CommandTimes) => void;
  readonly log?: Logger;
}
