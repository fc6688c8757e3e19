/**
 * The fuzzing loop: inputs are mutated from a corpus, which grows by those on which the machine did what it had not done
 * before. The corpus in the repository, tests/fuzz/corpus/nbd, is where it begins; every input of it is run first.
 * FARBUS_FUZZ_KEEP=1 writes back what was found, FARBUS_FUZZ_INPUTS=N and FARBUS_FUZZ_SEED=N set number and seed.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cleaned, decode, encode, mutate, sizeOf, type Input } from './input.js';
import { Random } from './random.js';

const traces = Error.stackTraceLimit;

/** A role under test. */
export interface Subject {
  readonly name: string;
  /** A valid input, from which the corpus begins and to which mutations come back. */
  generate(random: Random): Input;
  /** One valid message. */
  message(random: Random): Uint8Array;
  /**
   * Runs inputs, each on a connection of its own, at once. Returns what the machine did on each, in short.
   * Rejects with {@link FuzzError} when it did what it must not.
   */
  run(inputs: readonly Input[], random: Random): Promise<readonly string[]>;
}

/** What a machine did wrong, and on which input. */
export class FuzzError extends Error {
  readonly input: Input;

  constructor(message: string, input: Input, cause?: unknown) {
    super(message, { cause });
    this.input = input;
  }
}

const batchSize = 64;
/** Inputs kept in memory, and in the file: the shortest of each behaviour. */
const maxCorpus = 3000;
const maxKept = 250;
const maxKeptBytes = 700;

export interface Outcome {
  readonly inputs: number;
  readonly seconds: number;
  readonly behaviours: number;
}

export async function fuzz(subject: Subject, count: number, seed: number): Promise<Outcome> {
  const random = new Random(seed);
  const path = fileURLToPath(new URL(`../corpus/nbd/${subject.name}.txt`, import.meta.url));
  const kept = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean).map(decode) : [];
  const corpus: Input[] = [];
  const seen = new Map<string, Input>();
  // Traces of errors that are a matter of course take a tenth of the time.
  Error.stackTraceLimit = 0;
  const began = performance.now();
  let done = 0;
  const run = async (inputs: readonly Input[]): Promise<void> => {
    let signatures: readonly string[];
    try {
      signatures = await subject.run(inputs.map(cleaned), random);
    } catch (error) {
      const what = error instanceof FuzzError ? `${error.message}\ninput: ${encode(error.input)}` : String(error);
      throw new Error(`${subject.name}, seed ${seed}, after ${done} inputs: ${what}`, { cause: error });
    }
    done += inputs.length;
    for (const [index, signature] of signatures.entries()) {
      const input = inputs[index]!;
      const known = seen.get(signature);
      if (known && sizeOf(known) <= sizeOf(input)) continue;
      if (!known && corpus.length >= maxCorpus) continue;
      seen.set(signature, input);
      corpus.push(input);
      if (corpus.length > 2 * maxCorpus) corpus.splice(0, corpus.length, ...seen.values());
    }
  };
  for (let at = 0; at < kept.length; at += batchSize) await run(kept.slice(at, at + batchSize));
  await run(Array.from({ length: batchSize }, () => subject.generate(random)));
  while (done < count) {
    const batch: Input[] = [];
    for (let index = 0; index < batchSize; index++) {
      const base = random.once(8) ? subject.generate(random) : random.pick(corpus);
      batch.push(mutate(base, random.pick(corpus), random, () => subject.message(random)));
    }
    await run(batch);
  }
  Error.stackTraceLimit = traces;
  if (process.env['FARBUS_FUZZ_KEEP']) {
    const short = [...seen.values()].filter((input) => sizeOf(input) <= maxKeptBytes);
    short.sort((a, b) => sizeOf(a) - sizeOf(b));
    const step = Math.max(1, short.length / maxKept);
    const lines = Array.from({ length: Math.min(maxKept, short.length) }, (_, index) =>
      encode(short[Math.floor(index * step)]!),
    );
    writeFileSync(path, [...new Set(lines)].map((line) => `${line}\n`).join(''));
  }
  return { inputs: done, seconds: (performance.now() - began) / 1000, behaviours: seen.size };
}
