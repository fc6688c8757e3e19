/** How a guest's end is reported to people and to scripts. */
import type { EngineEnd } from '../machine/engine.js';

/** The reason for people; completes "the guest ". */
export const endText: Readonly<Record<EngineEnd, string>> = {
  halted: 'has halted',
  reset: 'asked for a restart',
  tripleFault: 'made a triple fault: its system could not handle an exception',
  failed: 'reached a state in which the engine cannot continue',
};

/** True if the guest did not want to end: a script must not take it for success. */
export function isBadEnd(why: EngineEnd): boolean {
  return why === 'failed' || why === 'tripleFault';
}

/** The end in one sentence. */
export function describeEnd(why: EngineEnd, detail?: string, subject = 'the guest'): string {
  return `${subject} ${endText[why]}${detail === undefined ? '' : ` (${detail})`}`;
}

/** The guest ended by itself while a script waited for its console. */
export class GuestEnded extends Error {
  /** The name of the class. */
  override readonly name = 'GuestEnded';
  /** How the guest ended. */
  readonly why: EngineEnd;

  /**
   * @param panic Reason of the kernel panic that was printed before, if there was one.
   * @param detail The engine's words about the end, if it has any.
   */
  constructor(why: EngineEnd, panic: string | undefined, detail?: string) {
    super(panic === undefined ? describeEnd(why, detail) : `the guest's kernel panicked: ${panic}`);
    this.why = why;
  }
}
