/**
 * Finds a running process of this user by the name that a person gives: NAME, SITE/COMPUTER, or
 * the name of a computer that only one running site has.
 */
import { FarbusError, isFailure } from '../../base/errors.js';
import { printable } from '../../base/printable.js';
import { similar } from '../../base/similar.js';
import { describe, describeMs, type Description } from './description.js';
import { kindWords, type ProcessKind, type Registered } from './kinds.js';
import { running } from './registry.js';

/** A named process, or a computer of a site's process. */
export interface Named {
  readonly process: Registered;
  /** The computer of the site; undefined if the process itself is meant. */
  readonly computer: string | undefined;
}

/** Most names in an error. */
const mostNames = 10;

/** Rejects with a FarbusError if no process, or several, have that name. */
export async function findNamed(name: string, env: NodeJS.ProcessEnv): Promise<Named> {
  const processes = await running(env);
  const [one, more] = processes.filter((entry) => entry.name === name);
  if (more)
    throw severalOf(
      name,
      [one!, more].map(({ pid }) => `process ${pid}`),
    );
  if (one) return { process: one, computer: undefined };
  const sites = (await describeAll(processes.filter(({ kind }) => kind === 'site'))).answers;
  const found = sites.flatMap(({ process, description }) =>
    (description.computers ?? [])
      .filter((computer) => computer.name === name || `${process.name}/${computer.name}` === name)
      .map((computer): Named => ({ process, computer: computer.name })),
  );
  const [computer, another] = found;
  if (another)
    throw severalOf(
      name,
      found.map(({ process }) => `${process.name}/${name}`),
    );
  if (computer) return computer;
  const inSites = sites.flatMap(({ process, description }) =>
    (description.computers ?? []).map((of) => [of.name, `${process.name}/${of.name}`] as const),
  );
  const names = [...processes.map((entry) => entry.name), ...inSites.map(([, full]) => full)];
  throw unknown(
    name,
    names,
    inSites.map(([short]) => short),
  );
}

function severalOf(name: string, ones: readonly string[]): FarbusError {
  return new FarbusError(
    `several are called ${printable(name, 100)}: ${ones.slice(0, mostNames).join(', ')}; say which`,
  );
}

function unknown(name: string, names: readonly string[], short: readonly string[]): FarbusError {
  const what = `nothing called ${JSON.stringify(printable(name, 100))} runs here`;
  if (names.length === 0) return new FarbusError(`${what}, and nothing else of farbus does`);
  const meant = similar(name, [...names, ...short]);
  const rest = names.length > mostNames ? ` and ${names.length - mostNames} more (farbus ps)` : '';
  const question = meant === undefined ? '' : `did you mean ${meant}? `;
  return new FarbusError(`${what}; ${question}these run: ${names.slice(0, mostNames).join(', ')}${rest}`);
}

/** An error about a process of another kind than the command needs. */
export function wrongKind({ process, computer }: Named, what: string): FarbusError {
  const name = computer === undefined ? process.name : `${process.name}/${computer}`;
  const kind = computer === undefined ? kindWords[process.kind] : 'computer of a site';
  return new FarbusError(`${name} is a ${kind}: ${what}`);
}

/** The named process, which must be of that kind. `what` says what the command is for. */
export async function findOfKind(
  name: string,
  kind: ProcessKind,
  what: string,
  env: NodeJS.ProcessEnv,
): Promise<Registered> {
  const found = await findNamed(name, env);
  if (found.process.kind !== kind || found.computer !== undefined) throw wrongKind(found, what);
  return found.process;
}

/** The named computer, of `farbus run` or of a site: it has a console. */
export async function findConsole(name: string, env: NodeJS.ProcessEnv): Promise<Named> {
  const found = await findNamed(name, env);
  const { process, computer } = found;
  if (process.kind === 'site' && computer === undefined) {
    throw wrongKind(found, 'name one of its computers, which farbus ps shows');
  }
  if (process.kind === 'serve' || process.kind === 'attach') throw wrongKind(found, 'it has no console');
  return found;
}

export interface Described {
  readonly process: Registered;
  readonly description: Description;
}

/** Answers of processes, and those that run and do not answer. */
export interface Descriptions {
  readonly answers: readonly Described[];
  readonly silent: readonly Registered[];
}

/** Asks all at once. A process that has just ended is in neither list. */
export async function describeAll(processes: readonly Registered[]): Promise<Descriptions> {
  const silent: Registered[] = [];
  const asked = processes.map(async (process) => {
    try {
      return { process, description: await describe(process) };
    } catch (error) {
      if (isFailure(error, 'no-answer')) silent.push(process);
      return undefined;
    }
  });
  const answers = (await Promise.all(asked)).filter((one) => one !== undefined);
  return { answers, silent: processes.filter((one) => silent.includes(one)) };
}

/** Names processes that run and do not answer, for a message. */
export function silentText(silent: readonly Registered[]): string {
  const names = silent.map(({ name, pid }) => `${name} (process ${pid})`);
  const rest = names.length > mostNames ? ` and ${names.length - mostNames} more` : '';
  return `no answer within ${describeMs / 1000} s from ${names.slice(0, mostNames).join(', ')}${rest}: was it stopped?`;
}
