/**
 * A dialer for servers that call in by themselves, such as a browser's tab, which cannot be
 * dialled. An attempt to connect waits until such a server has called.
 *
 * Not here: who may call in (app/serve/lends.ts).
 */
import { onAbort } from '../../../base/abort.js';
import { FarbusError } from '../../../base/errors.js';
import type { ByteStream, Dialer } from '../../../network/stream.js';

/**
 * Time for which one attempt waits for a call, in ms. The rest of the initiator's time limit is for
 * the handshake.
 */
const waitMs = 5000;

export class CallInDialer implements Dialer {
  readonly address: string;
  readonly #absent: string;
  /** The latest call, until an attempt takes it. */
  #call: ByteStream | undefined;
  #taken: ByteStream | undefined;
  #wake: (() => void) | undefined;

  /**
   * @param address name of the server, for messages
   * @param absent the reason while nothing has called in, for messages, with what to do
   */
  constructor(address: string, absent: string) {
    this.address = address;
    this.#absent = absent;
  }

  /** The call that the latest attempt has taken. */
  get taken(): ByteStream | undefined {
    return this.#taken;
  }

  /** A server has called in. A call that no attempt has taken yet is closed in its favour. */
  offer(stream: ByteStream): void {
    this.#call?.destroy();
    this.#call = stream;
    this.#wake?.();
  }

  connect(signal: AbortSignal): Promise<ByteStream> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const end = (): void => {
        clearTimeout(timer);
        unwatch();
        this.#wake = undefined;
      };
      const take = (): void => {
        end();
        const call = this.#call!;
        this.#taken = call;
        this.#call = undefined;
        resolve(call);
      };
      const fail = (reason: unknown): void => {
        end();
        reject(reason as Error);
      };
      const absent = (): void => fail(new FarbusError(this.#absent, { kind: 'unreachable' }));
      const timer = setTimeout(absent, waitMs);
      const unwatch = onAbort(signal, () => fail(signal.reason));
      this.#wake = take;
      if (this.#call) take();
    });
  }

  /** Closes a call that no attempt has taken. */
  close(): void {
    this.#call?.destroy();
    this.#call = undefined;
  }
}
