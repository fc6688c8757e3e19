/**
 * Admits connections to an export whose storage other servers use too (block/writer-lock.ts). The
 * storage is taken over before a connection that may write gets its answer, and never because of a
 * request: a request may have waited in this process while another server took the storage over.
 *
 * Once the storage is lost, the connections end. Before it is taken over again, the last of their
 * requests has ended, so that none of them can run on the storage after those of another server.
 */
import type { SessionMember } from '../block/sessions.js';
import type { TakeOver } from '../block/writer-lock.js';

export class TakeOverGate {
  readonly #takeOver: TakeOver;
  readonly #connections = new Set<SessionMember>();
  #latest: Promise<void> = Promise.resolve();

  constructor(takeOver: TakeOver) {
    this.#takeOver = takeOver;
    takeOver.onLost = () => void this.#end();
  }

  /** Makes the storage ready for a connection. Rejects if that fails. */
  admit(writes: boolean): Promise<void> {
    const admitted = this.#latest.then(() => this.#admit(writes));
    this.#latest = admitted.catch(() => undefined);
    return admitted;
  }

  entered(connection: SessionMember): void {
    this.#connections.add(connection);
  }

  /** A connection has ended, and so have its requests. */
  left(connection: SessionMember): void {
    this.#connections.delete(connection);
  }

  async #admit(writes: boolean): Promise<void> {
    if (await this.#takeOver.ready(writes)) return;
    if (this.#takeOver.spent) await this.#end();
    await this.#takeOver.take(writes);
  }

  async #end(): Promise<void> {
    await Promise.all([...this.#connections].map((one) => one.fence()));
  }
}
