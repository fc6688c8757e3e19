/**
 * The messages between a page and the worker in which its computer runs: calls with their results,
 * and events. Errors keep the kind by which code decides.
 */
import { FarbusError, messageOf, type FailureKind } from '../base/errors.js';
import { BlockError, type BlockErrorKind } from '../block/errors.js';

/** A call of a method on the other side. */
interface Call {
  readonly call: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** The result of a call. */
type Result =
  { readonly result: number; readonly value: unknown } | { readonly result: number; readonly error: PlainError };

/** An event, to which there is no result. */
interface Event {
  readonly event: string;
  readonly value: unknown;
}

interface PlainError {
  readonly message: string;
  readonly kind?: FailureKind | undefined;
  readonly blockKind?: BlockErrorKind | undefined;
}

/** The parts of a Worker, and of a worker's global object, that this file uses. */
export interface MessageEnd {
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** A value with memory that is moved to the other side instead of copied. */
export class Moved {
  readonly value: unknown;
  readonly memory: Transferable[];

  constructor(value: unknown, ...memory: Transferable[]) {
    this.value = value;
    this.memory = memory;
  }
}

/** One end of the connection between a page and a worker. */
export class Messages {
  readonly #end: MessageEnd;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #lastCall = 0;

  /**
   * @param serve answers a call of the other side
   * @param receive receives an event of the other side
   */
  constructor(
    end: MessageEnd,
    serve: (method: string, args: readonly unknown[]) => unknown,
    receive: (event: string, value: unknown) => void,
  ) {
    this.#end = end;
    end.onmessage = ({ data }: { data: Call | Result | Event }) => {
      if ('call' in data) void this.#serve(data, serve);
      else if ('event' in data) receive(data.event, data.value);
      else this.#settle(data);
    };
  }

  /** Calls a method of the other side. */
  call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    const call = ++this.#lastCall;
    return new Promise<T>((resolve, reject) => {
      this.#calls.set(call, { resolve: resolve as (value: unknown) => void, reject });
      this.#end.postMessage({ call, method, args } satisfies Call, []);
    });
  }

  /** Tells the other side of an event. */
  tell(event: string, value: unknown, ...memory: Transferable[]): void {
    this.#end.postMessage({ event, value } satisfies Event, memory);
  }

  /** Rejects the calls that have no result yet: the other side is gone. */
  fail(error: Error): void {
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }

  async #serve({ call, method, args }: Call, serve: (method: string, args: readonly unknown[]) => unknown) {
    try {
      const value = await serve(method, args);
      if (value instanceof Moved)
        this.#end.postMessage({ result: call, value: value.value } satisfies Result, value.memory);
      else this.#end.postMessage({ result: call, value } satisfies Result, []);
    } catch (error) {
      this.#end.postMessage({ result: call, error: plain(error) } satisfies Result, []);
    }
  }

  #settle(result: Result): void {
    const waiting = this.#calls.get(result.result);
    this.#calls.delete(result.result);
    if (!waiting) return;
    if ('error' in result) waiting.reject(errorOf(result.error));
    else waiting.resolve(result.value);
  }
}

function plain(error: unknown): PlainError {
  return {
    message: messageOf(error),
    ...(error instanceof FarbusError && { kind: error.kind }),
    ...(error instanceof BlockError && { blockKind: error.kind }),
  };
}

function errorOf({ message, kind, blockKind }: PlainError): Error {
  if (blockKind !== undefined) return new BlockError(blockKind, message);
  return kind === undefined ? new Error(message) : new FarbusError(message, { kind });
}
