/**
 * The steps of [SYS] fig. 4-13 as a running system passes them: what `--trace` prints and what tests assert.
 * A command (one read, write, flush … of a guest's driver) has a tag; its steps carry the tag and a time.
 */

/** A step's number in the figures of [SYS], as text: "301", "261". */
export type StepId = string;

/** What tells a command from others: a number that is counted here, or what its protocol has for that (an NBD cookie has 64 bits). */
export type StepTag = number | bigint;

/** One step that was passed. */
export interface Step {
  /** Tag of the command it belongs to; 0 where it belongs to none (boot). */
  readonly tag: StepTag;
  readonly id: StepId;
  /** Milliseconds, of `performance.now()`. */
  readonly time: number;
  /** What happened, in a few words: "write sectors 2048..2055". */
  readonly detail: string;
  /** The tag under which the other computer tells its steps of the same command. */
  readonly wire?: StepTag;
}

/** Receives steps as they are passed. Called on the guest's path: it must be quick and must not throw. */
export interface StepSink {
  step(step: Step): void;
}

/** A place that steps are reported to; costs one test where nobody listens. */
export class Steps {
  #sinks: StepSink[] = [];
  #lastTag = 0;

  /** Whether anybody listens: ask before a detail is put together. */
  get on(): boolean {
    return this.#sinks.length > 0;
  }

  /** A new command's tag: 1, 2, … */
  newTag(): number {
    return ++this.#lastTag;
  }

  add(sink: StepSink): void {
    this.#sinks = [...this.#sinks, sink];
  }

  /** May be called by the sink itself. */
  remove(sink: StepSink): void {
    this.#sinks = this.#sinks.filter((one) => one !== sink);
  }

  /** Reports a step; `time` where it was passed earlier, `wire` where it tells the other computer's tag. */
  step(tag: StepTag, id: StepId, detail = '', time = performance.now(), wire?: StepTag): void {
    if (this.#sinks.length === 0) return;
    const step = { tag, id, detail, time, ...(wire !== undefined && { wire }) };
    for (const sink of this.#sinks) sink.step(step);
  }
}
