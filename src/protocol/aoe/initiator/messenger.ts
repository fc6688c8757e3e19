/** Questions to targets that are not part of a session: each is asked again until it is answered or given up. */
import type { Port } from '../../../network/ethernet/segment.js';
import { tagOf } from '../wire.js';

interface Question {
  /** Looks at a response with the question's tag; true: that is it. */
  readonly take: (frame: Uint8Array) => boolean;
}

export interface AskOptions {
  readonly signal: AbortSignal;
  /** Pause between copies, in ms. */
  readonly everyMs: number;
  /** Copies at most. Default: until the signal. */
  readonly copies?: number;
}

export class Messenger {
  readonly #port: Port;
  readonly #nextTag: () => number;
  readonly #questions = new Map<number, Question>();

  /** @param nextTag A tag that nothing else uses at the time. */
  constructor(port: Port, nextTag: () => number) {
    this.#port = port;
    this.#nextTag = nextTag;
  }

  /** A response arrived. Whether it was an answer. It is valid during the call only. */
  take(frame: Uint8Array): boolean {
    const tag = tagOf(frame);
    if (!this.#questions.get(tag)?.take(frame)) return false;
    this.#questions.delete(tag);
    return true;
  }

  /**
   * Sends `frame`, which gets a tag, until `accept` gives something for an answer to it, which is then the result.
   * Undefined: nobody answered. Rejects with what `accept` throws, or with the signal's reason.
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
