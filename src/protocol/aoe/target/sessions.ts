/**
 * The sessions of our own initiators (../session.ts), and what the target remembers of each: which of its latest tags
 * are being executed or are done, and with what result. So every copy of a command is known: one that is being executed
 * is ignored, one that is done is answered again, and one that is older than what is remembered is refused.
 */
import { nonceSize, tagMemory, type SessionOpening } from '../session.js';

/** Sessions that are remembered at a time; the one that was not used for the longest time gives way. */
const maxSessions = 64;

/** What a command's copy is. */
export type Copy = 'new' | 'executing' | 'done' | 'stale' | 'ahead';

const none = 0;
const executing = 1;
const done = 2;

export class TargetSession {
  readonly generation: number;
  readonly nonce: Uint8Array;
  readonly #states = new Uint8Array(tagMemory);
  readonly #results = new Uint32Array(tagMemory);
  /** The newest tag that was met. */
  #newest: number;
  #executing = 0;
  #idle: (() => void)[] = [];

  constructor(generation: number, opening: SessionOpening) {
    this.generation = generation;
    this.nonce = opening.nonce;
    this.#newest = (opening.firstTag - 1) >>> 0;
  }

  /** What the command with this tag is; if it is new, it is being executed from now on. */
  take(tag: number): Copy {
    const ahead = (tag - this.#newest) | 0;
    // Further ahead than an initiator goes that has its answers.
    if (ahead > tagMemory / 2) return 'ahead';
    if (ahead <= -tagMemory / 2) return 'stale';
    for (let step = 1; step <= ahead; step++) this.#states[(this.#newest + step) % tagMemory] = none;
    if (ahead > 0) this.#newest = tag;
    const state = this.#states[tag % tagMemory];
    if (state === executing) return 'executing';
    if (state === done) return 'done';
    this.#states[tag % tagMemory] = executing;
    this.#executing++;
    return 'new';
  }

  /**
   * A command is over. `result`: what {@link resultOf} gives for copies of it; undefined where a copy is to be executed
   * again, as a read.
   */
  finish(tag: number, result: number | undefined): void {
    this.#executing--;
    const within = (this.#newest - tag) >>> 0 < tagMemory;
    if (within && this.#states[tag % tagMemory] === executing) {
      this.#states[tag % tagMemory] = result === undefined ? none : done;
      this.#results[tag % tagMemory] = result ?? 0;
    }
    if (this.#executing === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  resultOf(tag: number): number {
    return this.#results[tag % tagMemory]!;
  }

  /** Resolves when nothing of it is being executed. */
  idle(): Promise<void> {
    return this.#executing === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }
}

export class SessionTable {
  /** By initiator and generation; the least recently used first. */
  readonly #sessions = new Map<string, TargetSession>();
  /** Superseded or given way, with commands still being executed. */
  readonly #ending = new Map<string, TargetSession>();
  /** Generation that was given last. */
  #last: number;
  #latest: { readonly mac: number; readonly session: TargetSession } | undefined;

  constructor() {
    this.#last = crypto.getRandomValues(new Uint16Array(1))[0]!;
  }

  /** The session of initiator `mac` (its key) with this generation. */
  find(mac: number, generation: number): TargetSession | undefined {
    // Mostly the one that was found last: it is the most recently used already.
    const latest = this.#latest;
    if (latest?.mac === mac && latest.session.generation === generation) return latest.session;
    const key = keyOf(mac, generation);
    const session = this.#sessions.get(key);
    if (session) {
      this.#sessions.delete(key);
      this.#sessions.set(key, session);
      this.#latest = { mac, session };
    }
    return session;
  }

  /**
   * Opens a session, or finds the one that this opening has opened before. What it supersedes executes nothing any more
   * when the promise resolves.
   */
  async open(mac: number, opening: SessionOpening): Promise<TargetSession> {
    const superseded = keyOf(mac, opening.supersedes);
    this.#end(superseded);
    const session = this.#known(mac, opening.nonce) ?? this.#add(mac, opening);
    await this.#ending.get(superseded)?.idle();
    return session;
  }

  #known(mac: number, nonce: Uint8Array): TargetSession | undefined {
    for (const [key, session] of this.#sessions) {
      if (!key.startsWith(`${mac}/`)) continue;
      let same = true;
      for (let at = 0; at < nonceSize; at++) same &&= session.nonce[at] === nonce[at];
      if (same) return session;
    }
    return undefined;
  }

  #add(mac: number, opening: SessionOpening): TargetSession {
    do this.#last = (this.#last % 0xffff) + 1;
    while (this.#sessions.has(keyOf(mac, this.#last)) || this.#ending.has(keyOf(mac, this.#last)));
    const session = new TargetSession(this.#last, opening);
    if (this.#sessions.size >= maxSessions) this.#end(this.#sessions.keys().next().value!);
    this.#sessions.set(keyOf(mac, this.#last), session);
    this.#latest = { mac, session };
    return session;
  }

  #end(key: string): void {
    const session = this.#sessions.get(key);
    if (!session) return;
    this.#sessions.delete(key);
    if (this.#latest?.session === session) this.#latest = undefined;
    this.#ending.set(key, session);
    void session.idle().then(() => this.#ending.delete(key));
  }
}

function keyOf(mac: number, generation: number): string {
  return `${mac}/${generation}`;
}
