/** How a guest's end is reported to people and to scripts. */
import type { EngineEnd } from '../machine/engine.js';

/** The reason for people; completes "the guest ". */
export const endText: Readonly<Record<EngineEnd, string>> = {
  halted: 'has halted',
  reset: 'asked for a restart',
  failed: 'reached a state in which the engine cannot continue',
};

/** The guest ended by itself while a script waited for its console. */
export class GuestEnded extends Error {
  /** The name of the class. */
  override readonly name = 'GuestEnded';
  /** How the guest ended. */
  readonly why: EngineEnd;

  /** @param panic Reason of the kernel panic that was printed before, if there was one. */
  constructor(why: EngineEnd, panic: string | undefined) {
    super(panic === undefined ? `the guest ${endText[why]}` : `the guest's kernel panicked: ${panic}`);
    this.why = why;
  }
}
