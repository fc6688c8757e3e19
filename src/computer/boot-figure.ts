/** The steps of a computer's boot, by the numbers that [SYS] gives to them. */
import { Steps, type StepId } from '../base/steps.js';

/**
 * The numbers that [SYS] fig. 11 (client) or fig. 12 (server) gives to the steps of a computer's
 * boot.
 */
export interface BootFigure {
  readonly loader: StepId;
  readonly hypervisor: StepId;
  readonly privileged: StepId;
  readonly protect: StepId;
  /** Arriving frames come to the hypervisor first. */
  readonly frames: StepId | undefined;
  readonly system: StepId;
  /**
   * True if the drives are logical devices, whose commands take the steps of fig. 4 to 8. False if
   * they are local disks.
   */
  readonly logicalDevices: boolean;
  /** The operating system has installed its own protection handler, and its own receive handler. */
  readonly handler: StepId;
  readonly receiver: StepId | undefined;
}

/** The drives of a server computer are local disks, so their commands report no steps. */
export function commandSteps(figure: BootFigure, steps: Steps): Steps {
  return figure.logicalDevices ? steps : new Steps();
}
