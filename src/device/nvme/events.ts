/** Asynchronous events (NVMe 1.4 §5.2): requests that wait for an event, and events that wait for a request. */
import { CommandError, type Command } from './command.js';
import { asyncEventLimit } from './identify.js';
import { Status } from './spec.js';

export class AsyncEvents {
  #requests: Pick<Command, 'cid'>[] = [];
  #events: number[] = [];
  readonly #answer: (request: Pick<Command, 'cid'>, event: number) => void;

  /** @param answer Completes a request with an event's dword 0. Called outside of the guest's own instruction. */
  constructor(answer: (request: Pick<Command, 'cid'>, event: number) => void) {
    this.#answer = answer;
  }

  /** Takes an Asynchronous Event Request. @throws CommandError where too many wait already. */
  request(command: Command): void {
    if (this.#requests.length >= asyncEventLimit) throw new CommandError(Status.asyncEventLimitExceeded);
    this.#requests.push(command);
    this.#match();
  }

  /** Reports an event; one that nobody has asked for is kept, once. Figures 145 to 148: type, information, log page. */
  report(type: number, information: number, logPage: number): void {
    const event = type | (information << 8) | (logPage << 16);
    if (!this.#events.includes(event)) this.#events.push(event);
    this.#match();
  }

  /** Takes back the request with this identifier, for an Abort. */
  take(cid: number): Pick<Command, 'cid'> | undefined {
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
      // What is reported may be a doorbell that the guest is just writing.
      queueMicrotask(() => this.#answer(request, event));
    }
  }
}
