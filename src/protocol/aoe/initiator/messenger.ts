/**
 * Sends questions to targets outside of a session: each is sent again until it is answered or given
 * up.
 */
import type { Port } from '../../../network/ethernet/segment.js';
import { tagOf } from '../wire.js';

interface Question {
  /** Checks a response with the question's tag. Returns true if it answers the question. */
  readonly take: (frame: Uint8Array) => boolean;
}

export interface AskOptions {
  readonly signal: AbortSignal;
  /** Interval between copies, in ms. */
  readonly everyMs: number;
  /** Maximum number of copies. Default: no limit; the signal ends the question. */
  readonly copies?: number;
}

export class Messenger {
  readonly #port: Port;
  readonly #nextTag: () => number;
  readonly #questions = new Map<number, Question>();

  /** Returns a tag that is not in use. */
  constructor(port: Port, nextTag: () => number) {
    this.#port = port;
    this.#nextTag = nextTag;
  }

  /**
   * Offers a response to the open questions. Returns true if it was an answer. The frame is valid
   * during the call only.
   */
  take(frame: Uint8Array): boolean {
    const tag = tagOf(frame);
    if (!this.#questions.get(tag)?.take(frame)) return false;
    this.#questions.delete(tag);
    return true;
  }

  /**
   * Sends the frame that `frame` builds for a new tag, again and again, until `accept` returns a
   * result for an answer. Resolves with that result, or with undefined if no answer came to all
   * copies. Rejects with the error that `accept` throws, or with the signal's reason.
   */
  ask<T extends object>(
    frame: (tag: number) => Uint8Array,
    accept: (answer: Uint8Array) => T | undefined,
    { signal, everyMs, copies = Infinity }: AskOptions,
  ): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const tag = this.#nextTag();
      const message = frame(tag);
      let sent = 0;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
        this.#questions.delete(tag);
      };
      const abort = (): void => {
        end();
        reject(signal.reason as Error);
      };
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort);
      const take = (answer: Uint8Array): boolean => {
        try {
          const result = accept(answer);
          if (result === undefined) return false;
          end();
          resolve(result);
        } catch (error) {
          end();
          reject(error as Error);
        }
        return true;
      };
      this.#questions.set(tag, { take });
      const again = (): void => {
        if (sent >= copies) {
          end();
          return resolve(undefined);
        }
        sent++;
        this.#port.send(message);
        timer = setTimeout(again, everyMs);
      };
      again();
    });
  }
}
