/**
 * Records the handlers that the guest's operating system has installed, for `--trace` ([SYS] fig.
 * 6, steps 301 and 302; fig. 7, steps 381 and 382). They are installed by the time of its first
 * command or frame, and remain its own.
 */
import type { Steps, StepId } from '../base/steps.js';
import { installedHandler, protectionVectors } from '../machine/descriptor-table.js';
import type { Engine } from '../machine/engine.js';
import type { BootFigure } from './boot-figure.js';

export class GuestHandlers {
  readonly #engine: Engine;
  readonly #steps: Steps;
  readonly #figure: BootFigure;
  /** The protection handler is recorded. */
  #recorded = false;

  constructor(engine: Engine, steps: Steps, figure: BootFigure) {
    this.#engine = engine;
    this.#steps = steps;
    this.#figure = figure;
  }

  /** The guest has sent a command: its protection handler is installed. */
  atCommand(): void {
    this.#recorded ||= this.#record(this.#figure.handler, protectionVectors.pageFault, 'handler');
  }

  /**
   * The guest has received a frame. `vector` is that of its network card's interrupt. Returns false
   * if its receive handler cannot be seen at the moment.
   */
  atFrame(vector: number | undefined): boolean {
    this.atCommand();
    return this.#recorded && this.#record(this.#figure.receiver, vector, 'receive handler');
  }

  /** Returns true if the handler is recorded, or if the figure has no step for it. */
  #record(step: StepId | undefined, vector: number | undefined, name: string): boolean {
    if (step === undefined) return true;
    if (vector === undefined || !this.#steps.on) return false;
    const registers = this.#engine.descriptors();
    const handler = registers && installedHandler(this.#engine.memory, registers, vector);
    if (handler === undefined) return false;
    this.#steps.step(0, step, `the operating system has installed its ${name} at 0x${handler.toString(16)}: recorded`);
    return true;
  }
}
