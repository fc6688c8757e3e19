/**
 * The loop of every fuzzer here: inputs are mutated from a corpus, which grows by those on which
 * the subject did what it had not done before. The corpus in the repository,
 * tests/fuzz/corpus/SUBJECT.txt, is where it begins; every input of it is run first. A watchdog
 * ends the process when the subject loops for ever.
 *
 * FARBUS_FUZZ_INPUTS=N sets the number of inputs of each subject, FARBUS_FUZZ_SEED=N the seed;
 * FARBUS_FUZZ_REPLAY=FILE runs the inputs of a file one by one instead; FARBUS_FUZZ_KEEP=1 writes
 * the corpus back.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cleaned, decode, encode, mutate, sizeOf, type Input } from './input.js';
import { Random } from '../../../src/conformance/random.js';
import { Watchdog } from './watchdog.js';

const traces = Error.stackTraceLimit;

/** The part of Farbus that is fuzzed. */
export interface Subject {
  readonly name: string;
  /** Inputs that run at once; default 64. */
  readonly batch?: number;
  /** Before the first input. */
  open?(): Promise<void>;
  /** A valid input, from which the corpus begins and to which mutations come back. */
  generate(random: Random): Input;
  /** One valid message. */
  message(random: Random): Uint8Array;
  /**
   * Runs inputs, each on a connection of its own, at once. Returns a short text for each: what the
   * subject did. Rejects with {@link FuzzError} when it did what it must not.
   */
  run(inputs: readonly Input[], random: Random): Promise<readonly string[]>;
  /** After the last input. Rejects where the subject does not end in good order. */
  close?(): Promise<void>;
}

/** A fault, and the input that causes it. */
export class FuzzError extends Error {
  readonly input: Input;

  constructor(message: string, input: Input, cause?: unknown) {
    super(message, { cause });
    this.input = input;
  }
}

/** Inputs kept in memory, and in the file: the shortest of each behaviour. */
const maxCorpus = 3000;
const maxKept = 250;
const maxKeptBytes = 700;
/** Bytes by which the process may have grown at the end of a run. */
const maxGrowth = 400 << 20;
/** How often each input is run by FARBUS_FUZZ_REPLAY. */
const replays = 50;
/** How often a long run tells how far it is, in ms. */
const tellMs = 60_000;

/** For a test that fuzzes: far more than it takes, in ms. */
export const patience = 24 * 60 * 60_000;

export interface Outcome {
  readonly inputs: number;
  readonly seconds: number;
  readonly behaviours: number;
}

/**
 * The number of inputs to run: what the environment says, or `usual`, or `long` with
 * FARBUS_TEST_ALL.
 */
export function inputsWanted(usual: number, long: number): number {
  return Number(process.env['FARBUS_FUZZ_INPUTS'] ?? (process.env['FARBUS_TEST_ALL'] ? long : usual));
}

export function seedWanted(): number {
  return Number(process.env['FARBUS_FUZZ_SEED'] ?? Date.now() % 0x7fff_ffff);
}

/**
 * Runs `count` inputs, at least the whole corpus, and says on stderr how it went. Rejects at the
 * first fault.
 */
export async function fuzz(subject: Subject, count: number, seed = seedWanted()): Promise<Outcome> {
  const before = process.memoryUsage.rss();
  const watchdog = new Watchdog(subject.name);
  // Traces of errors that are a matter of course take a tenth of the time.
  Error.stackTraceLimit = 0;
  try {
    await subject.open?.();
    const outcome = await new Campaign(subject, seed, watchdog).run(count);
    await subject.close?.();
    const { inputs, seconds, behaviours } = outcome;
    const each = Math.round(inputs / seconds);
    console.error(`${subject.name}: ${inputs} inputs, ${each} a second, ${behaviours} behaviours, seed ${seed}`);
    const grown = process.memoryUsage.rss() - before;
    if (grown > maxGrowth) throw new Error(`${subject.name}, seed ${seed}: the process has grown by ${grown} bytes`);
    return outcome;
  } finally {
    Error.stackTraceLimit = traces;
    await watchdog.stop();
  }
}

class Campaign {
  readonly #subject: Subject;
  readonly #seed: number;
  readonly #random: Random;
  readonly #watchdog: Watchdog;
  readonly #corpus: Input[] = [];
  /** The shortest input of each behaviour. */
  readonly #seen = new Map<string, Input>();
  #done = 0;

  constructor(subject: Subject, seed: number, watchdog: Watchdog) {
    this.#subject = subject;
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#watchdog = watchdog;
  }

  async run(count: number): Promise<Outcome> {
    const began = performance.now();
    const replay = process.env['FARBUS_FUZZ_REPLAY'];
    if (replay !== undefined) await this.#replay(inputsOf(replay));
    else await this.#mutate(count);
    if (process.env['FARBUS_FUZZ_KEEP']) this.#keep();
    return { inputs: this.#done, seconds: (performance.now() - began) / 1000, behaviours: this.#seen.size };
  }

  /**
   * One by one, and often: what an input meets depends on random numbers, such as which server it
   * is sent to.
   */
  async #replay(inputs: readonly Input[]): Promise<void> {
    for (const input of inputs) for (let time = 0; time < replays; time++) await this.#batch([input]);
  }

  async #mutate(count: number): Promise<void> {
    const subject = this.#subject;
    const random = this.#random;
    const size = subject.batch ?? 64;
    const kept = inputsOf(corpusPath(subject));
    for (let at = 0; at < kept.length; at += size) await this.#batch(kept.slice(at, at + size));
    await this.#batch(Array.from({ length: size }, () => subject.generate(random)));
    for (let told = Date.now(); this.#done < count;) {
      const batch: Input[] = [];
      for (let index = 0; index < size; index++) {
        const base = random.once(8) ? subject.generate(random) : random.pick(this.#corpus);
        batch.push(mutate(base, random.pick(this.#corpus), random, () => subject.message(random)));
      }
      await this.#batch(batch);
      if (Date.now() - told < tellMs) continue;
      told = Date.now();
      console.error(`${subject.name}: ${this.#done} of ${count} inputs so far`);
    }
  }

  async #batch(given: readonly Input[]): Promise<void> {
    const inputs = given.map(cleaned);
    this.#watchdog.running(`seed ${this.#seed}, after ${this.#done} inputs`, inputs.map(encode).join('\n'));
    let signatures: readonly string[];
    try {
      signatures = await this.#watchdog.guard(this.#subject.run(inputs, this.#random));
    } catch (error) {
      const what = error instanceof FuzzError ? `${error.message}\ninput: ${encode(error.input)}` : String(error);
      throw new Error(`${this.#subject.name}, seed ${this.#seed}, after ${this.#done} inputs: ${what}`, {
        cause: error,
      });
    }
    this.#done += inputs.length;
    for (const [index, signature] of signatures.entries()) this.#learn(signature, inputs[index]!);
  }

  #learn(signature: string, input: Input): void {
    const known = this.#seen.get(signature);
    if (known && sizeOf(known) <= sizeOf(input)) return;
    if (!known && this.#seen.size >= maxCorpus) return;
    this.#seen.set(signature, input);
    this.#corpus.push(input);
    if (this.#corpus.length > 2 * maxCorpus) this.#corpus.splice(0, this.#corpus.length, ...this.#seen.values());
  }

  #keep(): void {
    const short = [...this.#seen.values()].filter((input) => sizeOf(input) <= maxKeptBytes);
    short.sort((a, b) => sizeOf(a) - sizeOf(b));
    const step = Math.max(1, short.length / maxKept);
    const lines = Array.from({ length: Math.min(maxKept, short.length) }, (_, index) =>
      encode(short[Math.floor(index * step)]!),
    );
    writeFileSync(corpusPath(this.#subject), [...new Set(lines)].map((line) => `${line}\n`).join(''));
  }
}

function corpusPath({ name }: Subject): string {
  return fileURLToPath(new URL(`../corpus/${name}.txt`, import.meta.url));
}

function inputsOf(path: string): Input[] {
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean).map(decode) : [];
}
