/**
 * The target's side of Farbus sessions (../session.ts).
 *
 * For each session the target remembers the state and result of its latest tags. So it recognises
 * every copy of a command: it ignores a copy while the command is in flight, repeats the answer if
 * the command is done, and refuses a tag that is older than its memory.
 */
import { generationCount, generationOf } from './generations.js';
import { nonceSize, tagMemory, type SessionOpening } from '../session.js';

/** Maximum number of sessions that are remembered; beyond it the least recently used one ends. */
const maxSessions = 64;

/**
 * State of a received command. `stale`: older than the tags that are remembered. `ahead`: its tag
 * is further ahead than an initiator may go.
 */
export type Copy = 'new' | 'executing' | 'done' | 'stale' | 'ahead';

/** States of a tag: unknown, in flight, done. */
const none = 0;
const executing = 1;
const done = 2;

/** A session as the target knows it: the states and results of its latest tags. */
export class TargetSession {
  readonly generation: number;
  readonly nonce: Uint8Array;
  /** Its commands are sealed (../seal.ts). */
  readonly sealed: boolean;
  readonly #states = new Uint8Array(tagMemory);
  readonly #results = new Uint32Array(tagMemory);
  /** The newest tag received. */
  #newest: number;
  #executing = 0;
  #idle: (() => void)[] = [];

  constructor(generation: number, opening: SessionOpening) {
    this.generation = generation;
    this.nonce = opening.nonce;
    this.sealed = opening.sealed;
    this.#newest = (opening.firstTag - 1) >>> 0;
  }

  /** The state of the command with this tag. A `new` command counts as in flight from now on. */
  take(tag: number): Copy {
    const ahead = (tag - this.#newest) | 0;
    // An initiator never goes this far ahead of its oldest unanswered tag (`tagSpan`).
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
   * Marks a command as done. `result` is what {@link resultOf} returns for copies of it. Undefined
   * means that a copy must be executed again; that is so for reads.
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

  /** Resolves when no command of the session is in flight. */
  idle(): Promise<void> {
    return this.#executing === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }
}

/** The sessions of all initiators of a target. */
export class SessionTable {
  /** Open sessions by initiator and generation, the least recently used first. */
  readonly #sessions = new Map<string, TargetSession>();
  /** Ended sessions that still have commands in flight. */
  readonly #ending = new Map<string, TargetSession>();
  /** Counts the generations that were assigned (generations.ts). Begins anywhere. */
  #count: number;
  #latest: { readonly mac: number; readonly session: TargetSession } | undefined;

  constructor() {
    this.#count = crypto.getRandomValues(new Uint16Array(1))[0]!;
  }

  /** The session of the initiator with this MAC key and generation. */
  find(mac: number, generation: number): TargetSession | undefined {
    // Usually this is the session found last, which is already the most recently used.
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
   * Opens a session, or returns the one that this nonce already opened. Resolves when no command
   * of the superseded session is in flight.
   */
  async open(mac: number, opening: SessionOpening): Promise<TargetSession> {
    const known = this.#known(mac, opening.nonce);
    const superseded = this.#superseded(mac, opening, known);
    for (const key of superseded) this.#end(key);
    const session = known ?? this.#add(mac, opening);
    await Promise.all(superseded.map((key) => this.#ending.get(key)?.idle()));
    return session;
  }

  /**
   * Keys of the sessions that an opening ends. A copy of an opening that supersedes no session ends
   * nothing.
   */
  #superseded(mac: number, { supersedes, named }: SessionOpening, known: TargetSession | undefined): string[] {
    if (supersedes !== 0 || named) return [keyOf(mac, supersedes)];
    if (known) return [];
    // Sessions that are already ending are included: the opening waits for them too.
    return [...this.#sessions.keys(), ...this.#ending.keys()].filter((key) => key.startsWith(`${mac}/`));
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
    let key: string;
    let generation: number;
    do {
      this.#count = (this.#count % generationCount) + 1;
      generation = generationOf(this.#count);
      key = keyOf(mac, generation);
    } while (this.#sessions.has(key) || this.#ending.has(key));
    const session = new TargetSession(generation, opening);
    if (this.#sessions.size >= maxSessions) this.#end(this.#sessions.keys().next().value!);
    this.#sessions.set(key, session);
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
