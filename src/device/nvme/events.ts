/**
 * Asynchronous events (NVMe 1.4 §5.2): matches Asynchronous Event Requests that wait with events
 * that wait.
 */
import { CommandError, type NvmeCommand } from './command.js';
import { asyncEventLimit } from '../../spec/nvme-identify.js';
import { Status } from '../../spec/nvme.js';

export class AsyncEvents {
  #requests: Pick<NvmeCommand, 'cid'>[] = [];
  #events: number[] = [];
  readonly #answer: (request: Pick<NvmeCommand, 'cid'>, event: number) => void;

  /**
   * @param answer Completes a request with dword 0 of the event. Never called within a guest
   *   instruction.
   */
  constructor(answer: (request: Pick<NvmeCommand, 'cid'>, event: number) => void) {
    this.#answer = answer;
  }

  /**
   * Accepts an Asynchronous Event Request.
   * @throws CommandError if too many requests wait
   */
  request(command: NvmeCommand): void {
    if (this.#requests.length >= asyncEventLimit) throw new CommandError(Status.asyncEventLimitExceeded);
    this.#requests.push(command);
    this.#match();
  }

  /**
   * Reports an event: type, information, log page (figures 145 to 148). It waits if there is no
   * request; an equal event that already waits is not repeated.
   */
  report(type: number, information: number, logPage: number): void {
    const event = type | (information << 8) | (logPage << 16);
    if (!this.#events.includes(event)) this.#events.push(event);
    this.#match();
  }

  /** Removes and returns the request with this identifier, for an Abort. */
  take(cid: number): Pick<NvmeCommand, 'cid'> | undefined {
    const index = this.#requests.findIndex((request) => request.cid === cid);
    return index < 0 ? undefined : this.#requests.splice(index, 1)[0];
  }

  clear(): void {
    this.#requests = [];
    this.#events = [];
  }

  /** Command identifiers of the requests that wait, for a snapshot. */
  save(): number[] {
    return this.#requests.map(({ cid }) => cid);
  }

  restore(cids: readonly number[]): void {
    this.#requests = cids.map((cid) => ({ cid }));
  }

  #match(): void {
    while (this.#requests.length > 0 && this.#events.length > 0) {
      const request = this.#requests.shift()!;
      const event = this.#events.shift()!;
      // The event may come from a doorbell write, thus within a guest instruction: answer outside
      // it.
      queueMicrotask(() => this.#answer(request, event));
    }
  }
}
