/**
 * The client computer 101 ([SYS] fig. 2): hypervisor 123, whose logical devices have remote media.
 * Its protection-interrupt handler 300 is machine/trap.ts, its virtual I/O client 260 is
 * virtual-io-client.ts.
 */
import type { BootFigure } from './boot-figure.js';
import { Computer } from './computer.js';
import type { ComputerOptions } from './options.js';

/** The step numbers of [SYS] fig. 11. */
const figure11: BootFigure = {
  loader: '321',
  hypervisor: '322',
  privileged: '323',
  protect: '324',
  frames: undefined,
  system: '325',
  logicalDevices: true,
  handler: '326',
  receiver: undefined,
};

/** A computer whose drives may be far away. */
export class ClientComputer extends Computer {
  /**
   * [SYS] fig. 11, steps 321 to 324: creates everything that must exist before the operating
   * system.
   */
  static async create(options: ComputerOptions): Promise<ClientComputer> {
    return new ClientComputer(await Computer.prepare(options, figure11));
  }
}
