/**
 * The server computer 102 ([SYS] fig. 3): hypervisor 133 under OS 2. Its handler 380 ([SYS] fig. 7)
 * is the trap for the server's local disk, 913 in [SYS] (384: an access that no device owns belongs
 * to the operating system), and for frames the shared adapter (280, 289).
 *
 * Not here: the virtual I/O server 400, which is a target on the adapter's share. The caller
 * creates it, because it depends on the protocol.
 */
import { FarbusError } from '../base/errors.js';
import type { BootFigure } from './boot-figure.js';
import { Computer } from './computer.js';
import type { ComputerOptions } from './options.js';

/** The step numbers of [SYS] fig. 12. */
const figure12: BootFigure = {
  loader: '341',
  hypervisor: '342',
  privileged: '343',
  protect: '344',
  frames: '345',
  system: '346',
  logicalDevices: false,
  handler: '347',
  receiver: '348',
};

/** A computer whose hypervisor serves devices beneath its operating system. */
export class ServerComputer extends Computer {
  /**
   * [SYS] fig. 12, steps 341 to 345: creates everything that must exist before the operating
   * system.
   */
  static async create(options: ComputerOptions): Promise<ServerComputer> {
    if (!options.adapter) throw new FarbusError('a server computer needs a network adapter');
    return new ServerComputer(await Computer.prepare(options, figure12));
  }
}
